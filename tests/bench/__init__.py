"""Benchmarks print our figures beside those of peers; no slow figure fails a test."""

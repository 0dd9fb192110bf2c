"""Benchmarks: figures, printed beside their peers'; never a test that fails on a slow day."""

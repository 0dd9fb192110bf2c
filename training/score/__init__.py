"""Scores files: files in, files out, on one machine or on a cluster."""

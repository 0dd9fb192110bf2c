"""Rows as tables: columns of arrays, and CSV."""

"""Finds suspicious data and figures."""

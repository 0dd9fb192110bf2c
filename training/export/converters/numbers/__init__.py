"""Transformers of numbers: scalers, splines, and what fills gaps."""

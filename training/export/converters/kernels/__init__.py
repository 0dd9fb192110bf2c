"""Converters of kernels: support vector machines and other weighted sums of likenesses."""

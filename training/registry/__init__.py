"""Versions of a model: publish, promote, roll back, prune, compare, sign."""

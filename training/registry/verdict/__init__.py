"""Compares a new model with the live one, and judges the conditions for going live."""

"""Converters: one module a family of steps, each written as elementary operators in float64.

A converter of "transform" takes a table and returns a table. The others return the name of a
tensor: "values" of shape (rows, targets), "probabilities" of shape (rows, classes), "decision" of
shape (rows, 1) or (rows, classes), and "label" of shape (rows,): int64 indices into `classes_`.
"""

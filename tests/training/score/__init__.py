"""Tests of training.score."""

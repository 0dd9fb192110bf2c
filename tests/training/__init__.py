"""Tests of the offline job."""

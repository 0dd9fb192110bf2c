"""Models and tables for the tests of scoring files."""

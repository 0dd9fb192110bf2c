"""Models and tables for tests of what is scored from files."""

"""Tests, against real servers and real processes wherever there is one."""

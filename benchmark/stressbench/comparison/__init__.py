"""Comparison of runs: differences, intervals and tests."""

"""Figures of runs, a file a figure. Which ones there are follows from the conditions and the tables, not from a suite."""

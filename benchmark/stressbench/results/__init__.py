"""Finished tables and records: intervals, runs read from their folders, formatted output."""

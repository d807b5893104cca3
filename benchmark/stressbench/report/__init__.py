"""Runs as one page for a colleague."""

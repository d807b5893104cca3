"""Runs against each other: what differs, by how much, and whether more than chance says so."""

"""Figures of runs. Each is drawn if the run has its conditions and columns: no suite is named here."""

"""Figures of runs, each where its kind of conditions and columns is there: no suite is named here."""

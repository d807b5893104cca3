"""How image classifiers and their uncertainty hold up under stress."""

__version__ = "0.1.0"

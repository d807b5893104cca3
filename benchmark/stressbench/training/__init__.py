"""Training: recipes, the loop, and the weights files that it leaves."""

from stressbench.training.job import Trainer
from stressbench.training.loop import Epoch, Measured, Report, Snapshot, evaluate, fresh, train
from stressbench.training.recipes import NAMES, Options, Recipe, recipe_for

__all__ = [
    "NAMES",
    "Epoch",
    "Measured",
    "Options",
    "Recipe",
    "Report",
    "Snapshot",
    "Trainer",
    "evaluate",
    "fresh",
    "recipe_for",
    "train",
]

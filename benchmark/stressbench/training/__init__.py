"""Training: recipes, the loop, and the weights files that it leaves."""

from stressbench.training.job import train_and_store, train_embedded
from stressbench.training.loop import Report, TrainingResult, evaluate, fresh, train
from stressbench.training.recipes import NAMES, Recipe, recipe_for

__all__ = [
    "NAMES",
    "Recipe",
    "Report",
    "TrainingResult",
    "evaluate",
    "fresh",
    "recipe_for",
    "train",
    "train_and_store",
    "train_embedded",
]

"""Training: the loop, checkpoints and weights files."""

from stressbench.recipe import Options
from stressbench.training.evaluation import Measured, evaluate
from stressbench.training.job import Trainer
from stressbench.training.loop import Epoch, Report, Snapshot, fresh, train

__all__ = [
    "Epoch",
    "Measured",
    "Options",
    "Report",
    "Snapshot",
    "Trainer",
    "evaluate",
    "fresh",
    "train",
]

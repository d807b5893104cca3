"""The learning curves of a training, as a table and a figure beside its weights."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from stressbench._util.files import replace, writing
from stressbench.training.loop import Epoch

# The columns before and after those of what was measured, each of which is called val_ and the metric's name.
COLUMNS = ("epoch", "step", "learning_rate", "train_loss"), ("seconds", "images_per_second")
# What is plotted first where it was measured: its label, and its factor.
_PLOTTED = {"accuracy": ("accuracy, %", 100), "miou": ("mean IoU, %", 100), "ece": ("ECE, %", 100)}


def write_csv(path: Path, epochs: Sequence[Epoch]) -> None:
    """A row for each epoch, in the units of `Epoch`; unmeasured values are empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    before, after = COLUMNS
    names = list(dict.fromkeys(name for e in epochs for name in e.held_out or ()))
    table.writerow((*before, *(f"val_{name}" for name in names), *after))
    for e in epochs:
        held_out = [(e.held_out or {}).get(name) for name in names]
        speed = (round(e.seconds, 3), round(e.images_per_second, 1))
        table.writerow((e.epoch, e.step, e.learning_rate, e.train_loss, *held_out, *speed))
    with writing(path.parent):
        replace(path, text.getvalue().encode())


def plot(path: Path, epochs: Sequence[Epoch], title: str, split: str) -> None:
    """A PNG of the loss beside the NLL on a held-out split, of the two best-known metrics, and the learning rate."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    at = [e.epoch for e in epochs]
    measured = [(e.epoch, e.held_out) for e in epochs if e.held_out is not None]
    measured_at = [epoch for epoch, _ in measured]
    with style.context("default"):  # a person's own settings would make another picture of the same numbers
        figure = Figure(figsize=(10, 6))
        FigureCanvasAgg(figure)
        (loss, first), (second, rate) = figure.subplots(2, 2, sharex=True)
        loss.plot(at, [e.train_loss for e in epochs], marker=".", label="training, augmented images")
        if measured and "nll" in measured[0][1]:
            loss.plot(measured_at, [m["nll"] for _, m in measured], marker=".", label=split)
        loss.legend()
        rate.plot(at, [e.learning_rate for e in epochs], marker=".")
        labels = {loss: "loss", rate: "learning rate at the epoch's end"}
        known = measured[0][1] if measured else {}
        for axes, name in zip((first, second), [name for name in _PLOTTED if name in known] or known, strict=False):
            label, factor = _PLOTTED.get(name, (name, 1))
            axes.plot(measured_at, [factor * m[name] for _, m in measured], marker=".", color="C1")
            labels[axes] = f"{split} {label}"
        for axes, label in labels.items():
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
        second.set_xlabel("epoch")
        rate.set_xlabel("epoch")
        figure.suptitle(title)
        figure.subplots_adjust(left=0.08, right=0.98, bottom=0.08, top=0.93, wspace=0.22, hspace=0.08)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=100, metadata={"Software": None})
    with writing(path.parent):
        replace(path, picture.getvalue())

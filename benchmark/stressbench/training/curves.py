"""A training's course beside its weights: a table and a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from stressbench.store import replace, writing
from stressbench.training.loop import Epoch

COLUMNS = (
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    "val_accuracy",
    "val_nll",
    "val_ece",
    "seconds",
    "images_per_second",
)


def write_csv(path: Path, epochs: Sequence[Epoch]) -> None:
    """A row an epoch, in the units of `Epoch`; what was not measured is empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for e in epochs:
        held_out = (None, None, None) if e.held_out is None else (e.held_out.accuracy, e.held_out.nll, e.held_out.ece)
        speed = (round(e.seconds, 3), round(e.images_per_second, 1))
        table.writerow((e.epoch, e.step, e.learning_rate, e.train_loss, *held_out, *speed))
    with writing(path.parent):
        replace(path, text.getvalue().encode())


def plot(path: Path, epochs: Sequence[Epoch], title: str) -> None:
    """A PNG of the loss beside the held-out NLL, of accuracy, ECE and the learning rate; one training, one picture."""
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
        (loss, accuracy), (ece, rate) = figure.subplots(2, 2, sharex=True)
        loss.plot(at, [e.train_loss for e in epochs], marker=".", label="training, augmented images")
        loss.plot(measured_at, [m.nll for _, m in measured], marker=".", label="test")
        loss.legend()
        accuracy.plot(measured_at, [100 * m.accuracy for _, m in measured], marker=".", color="C1")
        ece.plot(measured_at, [100 * m.ece for _, m in measured], marker=".", color="C1")
        rate.plot(at, [e.learning_rate for e in epochs], marker=".")
        labels = {
            loss: "NLL, nats",
            accuracy: "test accuracy, %",
            ece: "test ECE, %",
            rate: "learning rate at the epoch's end",
        }
        for axes, label in labels.items():
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
        ece.set_xlabel("epoch")
        rate.set_xlabel("epoch")
        figure.suptitle(title)
        figure.subplots_adjust(left=0.08, right=0.98, bottom=0.08, top=0.93, wspace=0.22, hspace=0.08)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=100, metadata={"Software": None})
    with writing(path.parent):
        replace(path, picture.getvalue())

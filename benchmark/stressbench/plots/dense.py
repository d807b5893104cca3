"""Pictures of dense predictions: image, target, prediction, error and uncertainty side by side, and strips of video."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import matplotlib
import numpy as np
import torch
from matplotlib import style as mpl_style
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from stressbench import metrics, randomness, registry
from stressbench._util import files
from stressbench.contracts import Batch, Condition, Dataset, Predictor, Regression, Segmentation, Stressed, traits
from stressbench.datasets.export import clean
from stressbench.errors import UserError, plugin_errors
from stressbench.plots import style
from stressbench.results.conditions import describe
from stressbench.spec import parse

FRAMES = 5
"""Of a strip."""
_CLIPPED = 99
"""Percentile of the error and the uncertainty where their colours end: single pixels would darken all others."""
_COLOURS = "tab20"  # of classes
# Inches: for the text on the left of a row, for titles, between panels, and for colour bars with their texts.
_LABEL, _TITLE, _GAP, _BAR = 0.4, 0.2, 0.04, 0.5
_VOID = (0.85, 0.85, 0.85)  # of pixels without a target
_MAPS = {"value": "cividis", "error": "magma", "uncertainty": "viridis"}

_Pixels = NDArray[np.float64]


@runtime_checkable
class _Stressing(Protocol):
    """A suite that stresses images."""

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed: ...


@dataclass(frozen=True)
class Panel:
    """A picture: colours (H, W, 3) in [0, 1], or numbers (H, W), NaN where there is none, on one of the scales."""

    title: str
    pixels: _Pixels
    scale: str | None = None
    """The key of `_MAPS`; panels of all rows with the same one share their colours and their colour bar."""
    unit: str = ""


@dataclass(frozen=True)
class Row:
    """Panels side by side, with the text on their left."""

    label: str
    panels: Sequence[Panel]


def picture(
    dataset: Dataset,
    suite: str,
    index: int,
    seed: int,
    out: Path,
    model: Predictor,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Write a PNG of a model's predictions for an image under each condition of a suite, as `rows`; returns its path.

    Raises `UserError` as `rows` does, and for a file that cannot be written.
    """
    found = rows(dataset, suite, index, seed, model, options)
    content = io.BytesIO()
    with mpl_style.context(["default", style.RC]):  # a person's own settings would make other bytes
        drawn(found).savefig(content, format="png")
    with files.writing(out):
        files.replace(out, content.getvalue())
    return out


def rows(
    dataset: Dataset,
    suite: str,
    index: int,
    seed: int,
    model: Predictor,
    options: Mapping[str, str] | None = None,
) -> list[Row]:
    """The image under each condition of a suite, with its target, the prediction, and the `maps` of both.

    Of a segmentation model that averages over video frames, and a dataset of video: consecutive frames from `index` on,
    their targets, and the classes that are predicted for each frame alone, and averaged.

    Raises `UserError` for an index outside the split, and for a suite that stresses no images.
    """
    if index >= len(dataset.images):
        raise UserError(f"{dataset.name} has {len(dataset.images)} {dataset.split} images: --image is 0 to one less")
    name = parse(suite).name
    made = registry.suite(suite, options, dataset.task.name)
    if not isinstance(made, _Stressing):
        raise UserError(f"the {name} suite changes no images, so there is nothing to draw")
    video = dataset.recordings is not None and isinstance(dataset.task, Segmentation)
    video = video and len(traits(model.module).frame_weights) > 1
    found: list[Row] = []
    with plugin_errors(f"{registry.find('suites', name)} failed with {registry.built_by(model.module)}"):
        if (why := made.unsupported(dataset)) is not None:
            raise UserError(f"the {name} suite does not support {dataset.name}: {why}")
        for condition in made.conditions():
            start, stop = _span(dataset, index, model) if video else (index, index + 1)
            batch = clean(dataset, condition, start, stop, seed)
            images = made.stress(condition, batch, model).images
            label = "clean" if torch.equal(images, batch.images) else describe(condition).replace("_", " ")
            found += (
                _strip(label, batch, images, model, index, not found) if video else [_row(label, batch, images, model)]
            )
    return found


def maps(task: Segmentation | Regression, draws: Tensor, tested: Tensor, target: Tensor) -> list[Panel]:
    """Target, prediction, error and uncertainty of draws (S, H, W, K) and a prediction under test (H, W, K).

    Of segmentation, all log-probabilities: the NLL of the target's class, and the entropy of the mean prediction. Of
    regression: |ŷ − y| and the standard deviation over draws of each value; where a pixel has several values, the mean
    error and the root of the mean variance.
    """
    draws, tested = draws.double(), tested.double()
    if isinstance(task, Segmentation):
        valid = target != task.ignore
        nll = -tested.gather(-1, torch.where(valid, target, 0)[..., None])[..., 0]
        entropy = metrics.entropy(metrics.log_mean_probability(draws))
        return [
            Panel("target", _classes(torch.where(valid, target, -1))),
            Panel("prediction", _classes(tested.argmax(dim=-1))),
            Panel("error", torch.where(valid, nll, torch.nan).numpy(), "error", "NLL (nats)"),
            Panel("uncertainty", entropy.numpy(), "uncertainty", "entropy (nats)"),
        ]
    target = target.movedim(0, -1).double()
    error = (tested - target).abs().mean(dim=-1)
    unit = "" if task.unit == "1" else f" ({task.unit})"
    panels = [
        _values("target", target, task, unit),
        _values("prediction", tested, task, unit),
        Panel("error", error.numpy(), "error", f"absolute error{unit}"),
    ]
    if len(draws) > 1:
        deviation = draws.var(dim=0, correction=0).mean(dim=-1).sqrt()
        panels.append(Panel("uncertainty", deviation.numpy(), "uncertainty", f"standard deviation{unit}"))
    return panels


def _row(label: str, batch: Batch, images: Tensor, model: Predictor) -> Row:
    draws = model.predict(images, batch.keys)
    inner = model.unwrapped
    # The prediction under test is the undisturbed one, as in suites: with keys of its own.
    tested = draws if inner is None else inner.predict(images, randomness.split(batch.keys, 1)[:, 0])
    task = batch.task
    assert isinstance(task, Segmentation | Regression), "the tasks with dense predictions"
    mean = metrics.log_mean_probability(tested) if isinstance(task, Segmentation) else tested.double().mean(dim=0)
    panels = maps(task, draws[:, 0].cpu(), mean[0].cpu(), batch.targets[0])
    return Row(label, [Panel("image", _rgb(images[0])), *panels])


def _span(dataset: Dataset, index: int, model: Predictor) -> tuple[int, int]:
    """The frames of a strip with those before it that count, all of one recording."""
    assert dataset.recordings is not None, "asked before"
    same = (dataset.recordings == dataset.recordings[index]).nonzero()
    first, last = int(same[0]), int(same[-1]) + 1
    return max(first, index - len(traits(model.module).frame_weights) + 1), min(last, index + FRAMES)


def _strip(label: str, batch: Batch, images: Tensor, model: Predictor, index: int, with_targets: bool) -> Iterator[Row]:
    """The frames from `index` on, their targets, and the classes that are predicted without and with those before."""
    assert batch.recordings is not None, "of a video"
    assert isinstance(batch.task, Segmentation), "of classes"
    shown = batch.indices >= index
    log_p = metrics.log_mean_probability(model.predict(images, batch.keys)).cpu()
    averaged = metrics.over_time(log_p, batch.recordings, traits(model.module).frame_weights)
    targets = torch.where(batch.targets == batch.task.ignore, -1, batch.targets)

    def row(text: str, frames: Iterator[_Pixels]) -> Row:
        titles = (f"frame {int(number)}" for number in batch.indices[shown])
        return Row(text, [Panel(title, pixels) for title, pixels in zip(titles, frames, strict=True)])

    yield row(label, (_rgb(frame) for frame in images[shown]))
    if with_targets:
        yield row("target", (_classes(frame) for frame in targets[shown]))
    for text, predicted in (("each frame alone", log_p), ("averaged", averaged)):
        classes = predicted.argmax(dim=-1)
        same, compared = metrics.unchanged(classes.flatten(1)[shown], batch.recordings[shown])
        kept = f"\n{100 * int(same.sum()) / int(compared.sum()):.1f} % stay" if int(compared.sum()) else ""
        yield row(text + kept, (_classes(frame) for frame in classes[shown]))


def _rgb(image: Tensor) -> _Pixels:
    """An image (3, H, W)."""
    pixels: _Pixels = image.detach().double().clamp(0, 1).movedim(0, -1).cpu().numpy()
    return pixels


def _classes(numbers: Tensor) -> _Pixels:
    """The colour of each class of (H, W); those below 0 are void."""
    palette = np.array(matplotlib.colormaps[_COLOURS].colors)  # type: ignore[attr-defined]
    colours: _Pixels = palette[numbers.numpy() % len(palette)]
    colours[numbers.numpy() < 0] = _VOID
    return colours


def _values(title: str, values: Tensor, task: Regression, unit: str) -> Panel:
    """Values (H, W, K): three as colours, else the first."""
    if task.channels == 3:
        return Panel(title, values.nan_to_num(_VOID[0]).clamp(0, 1).numpy())
    first = f" {task.channels} values, the first" if task.channels > 1 else task.name
    return Panel(title, values[..., 0].numpy(), "value", f"{first}{unit}")


def drawn(rows: Sequence[Row]) -> Figure:
    """The rows, one below the other, as wide as the page, with a bar below for each scale."""
    columns = len(rows[0].panels)
    scales = dict.fromkeys(panel.scale for panel in rows[0].panels if panel.scale is not None)
    width = (style.WIDTH - _LABEL) / columns - _GAP
    height = width * rows[0].panels[0].pixels.shape[0] / rows[0].panels[0].pixels.shape[1]
    total = _TITLE + len(rows) * (height + _GAP) + (_BAR if scales else 0)
    figure = Figure(figsize=(style.WIDTH, total))

    def add(column: int, top: float, wide: int, high: float, inset: float = 0) -> Axes:
        """Axes over so many columns, so many inches from the top and high."""
        left, across = _LABEL + column * (width + _GAP) + inset, wide * (width + _GAP) - _GAP - 2 * inset
        return figure.add_axes((left / style.WIDTH, 1 - (top + high) / total, across / style.WIDTH, high / total))

    ranges = {scale: _range(rows, scale) for scale in scales}
    for number, row in enumerate(rows):
        for column, panel in enumerate(row.panels):
            ax = add(column, _TITLE + number * (height + _GAP), 1, height)
            _show(ax, panel, ranges)
            if number == 0:
                ax.set_title(panel.title, pad=3)
            if column == 0:
                lines = (style.wrapped(line, max(int(18 * height), 10)) for line in row.label.splitlines())
                ax.set_ylabel("\n".join(lines), fontsize=7)
    for scale, normalised in ranges.items():
        own = [column for column, panel in enumerate(rows[0].panels) if panel.scale == scale]
        beyond = any(
            (panel.pixels > (normalised.vmax or 0)).any()
            for row in rows
            for panel in row.panels
            if panel.scale == scale
        )
        figure.colorbar(
            ScalarMappable(normalised, _colours(scale)),
            cax=add(own[0], total - _BAR + 0.04, len(own), 0.08, inset=0.08),
            orientation="horizontal",
            label=rows[0].panels[own[0]].unit,
            extend="max" if beyond else "neither",
        )
    return figure


def _show(ax: Axes, panel: Panel, ranges: Mapping[str, Normalize]) -> None:
    if panel.scale is None:
        ax.imshow(panel.pixels, interpolation="nearest")
    else:
        ax.imshow(panel.pixels, cmap=_colours(panel.scale), norm=ranges[panel.scale], interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.grid(False)


def _colours(scale: str) -> matplotlib.colors.Colormap:
    """With pixels that have no number in the colour of void."""
    return matplotlib.colormaps[_MAPS[scale]].with_extremes(bad=_VOID)


def _range(rows: Sequence[Row], scale: str) -> Normalize:
    """From 0 to nearly the largest of errors and uncertainties; of values, all that occur."""
    found = np.concatenate([panel.pixels.ravel() for row in rows for panel in row.panels if panel.scale == scale])
    known = found[np.isfinite(found)]
    if not len(known):
        return Normalize(0, 1)
    if scale == "value":
        return Normalize(float(known.min()), float(known.max()))
    return Normalize(0, float(np.percentile(known, _CLIPPED)) or 1)

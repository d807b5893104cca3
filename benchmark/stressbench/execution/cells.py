"""The units of a run's work: some images under a condition."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stressbench._util.terminal import ProgressCallback
from stressbench.contracts import Condition
from stressbench.datasets.cache import ImageCache
from stressbench.execution.first_batch import Drift, first_images, judge
from stressbench.execution.identity import Inputs
from stressbench.execution.measure import Measurement
from stressbench.execution.predict import Predictor
from stressbench.record import Finding
from stressbench.results.tables import Columns

KeepFindings = Callable[[Sequence[Finding]], None]


@dataclass(frozen=True)
class Cell:
    """Images start … stop − 1 under a condition."""

    condition: Condition
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def after(self, done: Cell) -> list[Cell]:
        """What is left of it when images from its first one on are done: one cell, or none."""
        return [Cell(self.condition, done.stop, self.stop)] if done.stop < self.stop else []


@dataclass(frozen=True)
class Measured:
    """A cell's tables by number of draws, and the seconds that they took.

    The cell is the one that was asked for, or the first images of a long one.
    """

    cell: Cell
    tables: Mapping[int, Columns]
    seconds: float
    findings: Sequence[Finding] = ()
    """What was noticed about the model after the cell."""


class CellWorker:
    """Measures cells of one run, in the process that it was made in."""

    def __init__(self, inputs: Inputs, images: Mapping[str | None, ImageCache], advance: ProgressCallback) -> None:
        """`images` are the run's own, by None, and those of its sources, by name; `advance` counts the images."""
        plan, ready = inputs.plan, inputs.ready
        self._predictor = Predictor(
            ready.module.to(plan.device),
            ready.entry,
            plan.dataset.task,
            inputs.sizes,
            ready.traits.stochastic,
            plan.precision,
            plan.batch_size,
            plan.largest,
            plan.compiled,
        )
        self._measurement = Measurement(plan, self._predictor, images, self._judge_once)
        self._dataset, self._first = plan.dataset, images[None]
        self._advance = advance
        self._keep: KeepFindings | None = None
        self._drift: Drift | None = None
        self._done = 0

    def __call__(self, cell: Cell, keep_findings: KeepFindings | None = None) -> Measured:
        """Measure a cell, or as many of its batches as take `SECONDS`.

        With `keep_findings`, the model is judged after its first batch, or at once if it has none.

        Raises `UserError` for a model or suite that fails.
        """
        started = time.perf_counter()
        self._keep = keep_findings
        stop = cell.start
        tables: Mapping[int, Columns] = {}
        if len(cell):
            stop, tables = self._measurement(cell.condition, cell.start, cell.stop, self._advance)
        self._judge_once()
        findings = self._drifted()
        done = Cell(cell.condition, cell.start, stop)
        return Measured(done, tables, time.perf_counter() - started, findings)

    def _drifted(self) -> list[Finding]:
        """What changed about the model since the first cell, after cells 2, 4, 8, …: what adds up is noticed then."""
        self._done += 1
        if self._drift is None:
            self._drift = Drift(self._predictor, first_images(self._first))
            return []
        return self._drift.findings() if self._done.bit_count() == 1 else []

    def _judge_once(self) -> None:
        if self._keep is not None:
            keep, self._keep = self._keep, None
            keep(judge(self._predictor, self._dataset, first_images(self._first)))

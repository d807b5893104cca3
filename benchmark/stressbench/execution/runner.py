"""Plan → cells, and tables → record.

The runner alone knows about resuming; a suite sees one batch under one condition, a model sees images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from stressbench import record, registry
from stressbench._util.terminal import ProgressCallback, Screen
from stressbench.contracts import Condition
from stressbench.datasets.cache import ImageCache
from stressbench.errors import UserError
from stressbench.execution import class_balance
from stressbench.execution.assembly import assemble, outline, suite_info
from stressbench.execution.cells import Cell, Measured
from stressbench.execution.first_batch import FirstBatch, beside
from stressbench.execution.identity import Inputs
from stressbench.execution.measure import suite_errors
from stressbench.execution.models import named
from stressbench.execution.plan import Failure
from stressbench.execution.prepare import Job
from stressbench.execution.ranges import Ranges
from stressbench.execution.store import Store
from stressbench.results.conditions import describe
from stressbench.results.intervals import with_intervals
from stressbench.results.scoring import left_out, scored
from stressbench.results.tables import Damaged


class Run:
    """One plan with its model, images and folder: `open` it, `accept` its cells, `finish` it, and `close` it."""

    def __init__(
        self,
        inputs: Inputs,
        images: Mapping[str | None, ImageCache],
        out: Path,
        job: Job | None = None,
        part: Sequence[Condition] | None = None,
    ) -> None:
        """`images` are the run's own, by None, and those of its sources, by name.

        Other processes build the run from the `job`. `part` are the conditions that are measured here, where others are
        measured elsewhere.
        """
        self.inputs, self.images, self.job = inputs, images, job
        self.plan, self.training = inputs.plan, job.training if job else 0
        self.part = self.plan.conditions if part is None else part
        with self._suite_errors():
            self._suite = suite_info(self.inputs)
        self.store = Store.of(out, self.plan.title, self.inputs.identity())
        self.cells: list[Cell] = []
        """What was missing in the folder when it was opened, in order: conditions, or ranges of their images."""
        self.executor = "this process"
        """Who computes its cells."""
        self.error: UserError | None = None
        """What ended it early."""
        self._unfinished: dict[int, Ranges] = {}
        """What is measured of a condition until it is whole, by its number."""
        self._elsewhere = False
        self._done = 0
        self._show: ProgressCallback | None = None
        self._held = ExitStack()

    def open(self, fresh: bool, screen: Screen) -> None:
        """Hold the folder and find what is missing in it; raises `UserError` where it cannot be written."""
        plan, draws = self.plan, self.inputs.draws
        if plan.draws not in (None, draws):
            option = f"--sizes {','.join(map(str, plan.sizes))}" if plan.sizes else f"--draws {plan.draws}"
            screen.note(f"{plan.model} is deterministic: it has one draw, and {option} changes nothing")
        self._held.enter_context(self.store.open(fresh))
        absent = [condition for condition in plan.conditions if not self._finished(condition, screen)]
        pending = [condition for condition in absent if condition in self.part]
        self._elsewhere = len(absent) > len(pending)
        for condition in pending:
            ranges = Ranges(plan, self.store, condition, screen)
            if len(ranges):
                screen.note(
                    f"{len(ranges):,} of {plan.images(condition):,} images are already there under "
                    f"{describe(condition)}"
                )
            if missing := ranges.missing:
                self._unfinished[plan.conditions.index(condition)] = ranges
                self.cells += missing
            else:
                ranges.commit()
        if len(pending) < len(self.part):
            done = len(self.part) - len(pending)
            screen.note(f"{done} of {len(self.part)} conditions are already in {self.store.folder}")
        self.first_batch = FirstBatch(self.store, screen, class_balance.doubts(plan.dataset, plan.n))
        if self.part and not self.cells and self.first_batch.findings is None:  # finished, but has lost its findings
            self.cells = [Cell(plan.conditions[0], 0, 0)]

    def close(self) -> None:
        """Release the folder."""
        self._held.close()

    @property
    def timeout(self) -> float | None:
        """Seconds that a condition may take."""
        return self.job.request.timeout if self.job else None

    @property
    def complete(self) -> bool:
        """Whether all cells were accepted, or an error ended the run."""
        judged = not self.cells or self.first_batch.findings is not None
        return self.error is not None or (judged and not self._unfinished)

    def failure(self, error: UserError) -> Failure:
        """The run as one that failed."""
        return Failure(named(str(self.plan.model), self.training), self.plan.suite.name, error)

    @contextmanager
    def progress(self, screen: Screen) -> Iterator[None]:
        """Shows the progress of the run inside."""
        total = sum(map(len, self.cells))
        with screen.progress(f"{self.plan.model} · {self.plan.suite.name}", total, "images", self._done) as show:
            self._show = show
            try:
                yield
            finally:
                self._show = None

    def advance(self, count: int, label: str) -> None:
        """Count images that are done."""
        self._done += count
        if self._show is not None:
            self._show(count, label)

    def accept(self, measured: Measured) -> None:
        """Take a cell, or a part of one, and commit what is whole; raises `UserError` where it cannot be written."""
        if measured.tables:
            number = self.plan.conditions.index(measured.cell.condition)
            ranges = self._unfinished[number]
            ranges.add(measured)
            if not ranges.missing:
                del self._unfinished[number]
        if measured.findings:
            self.first_batch.add(measured.findings)

    def finish(self) -> record.Record | None:
        """Score the tables of all conditions and commit the record; None where some are measured elsewhere.

        Raises `UserError` for a suite that fails.
        """
        plan, draws = self.plan, self.inputs.draws
        empty = outline(self.inputs, self._suite, self.executor)
        if self._elsewhere:
            self.store.write_part(empty.model_dump_json(indent=2) + "\n")
            return None
        tables, seconds = self.store.whole([(condition, plan.rows(condition)) for condition in plan.conditions])
        scoring = (plan.suite, plan.conditions, tables, self._suite.baseline)
        with self._suite_errors():
            scores = scored(*scoring)
            findings = beside(plan.suite.findings(plan.conditions, scores[draws].rows), self.first_batch.findings or ())
            result = assemble(empty, plan.suite, tables, scores, findings, seconds)
        if not any(map(len, self.cells)) and (kept := self._kept(result)) is not None:
            return kept
        with self._suite_errors():
            result = with_intervals(result, plan.suite, scores, list(left_out(*scoring)))
        self.store.write_record(result.to_json())
        return result

    def _finished(self, condition: Condition, screen: Screen) -> bool:
        try:
            return self.store.read(condition, self.plan.rows(condition)) is not None
        except Damaged as damage:
            screen.note(str(damage))
            return False

    def _suite_errors(self) -> AbstractContextManager[None]:
        return suite_errors(self.plan, registry.built_by(self.inputs.ready.module))

    def _kept(self, result: record.Record) -> record.Record | None:
        """The record that is there already, if it says the same: when and where it was made is for it to tell.

        The intervals, which take the longest, follow from the same tables.
        """
        if not self.store.record_is_as_written():
            return None
        try:
            there = record.load(self.store.folder)
        except UserError:
            return None
        told: Any = dict.fromkeys(("created", "environment", "timing", "batch_size", "intervals", "jackknife"), True)
        told["conditions"] = {"__all__": {"jackknife"}}
        renamed = there.named(result.model.name)
        if renamed.model_dump(exclude=told) != result.model_dump(exclude=told) or not there.jackknife:
            return None
        if renamed != there:
            self.store.write_record(renamed.to_json())
        return renamed

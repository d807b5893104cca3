"""The tables of a condition that come in ranges of its images, in any order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from stressbench._util.terminal import Screen
from stressbench.contracts import Condition
from stressbench.execution import measure
from stressbench.execution.cells import Cell, Measured
from stressbench.execution.plan import Plan
from stressbench.execution.store import Store
from stressbench.results.tables import Damaged, columns


class Ranges:
    """What is measured of one condition: committed as its table when it is whole.

    Until then ranges are kept in the run's folder as soon as they hold `measure.SECONDS` of work, so that no more than
    that is lost.
    """

    def __init__(self, plan: Plan, store: Store, condition: Condition, screen: Screen) -> None:
        """Begins with the ranges in the folder; notes those that cannot be used."""
        self._store, self._whole = store, Cell(condition, 0, plan.images(condition))
        self._found: list[Measured] = []
        self._unsaved: list[Measured] = []
        for start, stop in store.ranges(condition):
            begun = self._found[-1].cell.stop if self._found else 0
            if not begun <= start < stop <= self._whole.stop:
                continue
            try:
                read = store.read(condition, plan.rows(condition, stop - start), (start, stop))
            except Damaged as damage:
                screen.note(str(damage))
                continue
            assert read is not None, "listed a moment ago, and the folder is locked"
            tables = {size: columns(frame) for size, frame in read[0].items()}
            self._found.append(Measured(Cell(condition, start, stop), tables, read[1]))

    def __len__(self) -> int:
        """The number of images that are done."""
        return sum(len(part.cell) for part in self._found)

    @property
    def missing(self) -> list[Cell]:
        """The ranges that are not done."""
        edges = [0, *(edge for part in self._found for edge in (part.cell.start, part.cell.stop)), self._whole.stop]
        gaps = list(pairwise(edges))[::2]
        return [Cell(self._whole.condition, start, stop) for start, stop in gaps if start < stop]

    def add(self, measured: Measured) -> None:
        """Take a range that was missing; raises `UserError` where it cannot be written."""
        self._found = sorted([*self._found, measured], key=lambda part: part.cell.start)
        self._unsaved.append(measured)
        if not self.missing:
            self.commit()
        elif sum(part.seconds for part in self._unsaved) >= measure.SECONDS:
            for part in self._unsaved:
                cell = part.cell
                self._store.write(cell.condition, part.tables, part.seconds, (cell.start, cell.stop))
            self._unsaved = []

    def commit(self) -> None:
        """Write the table of the whole condition; raises `UserError` where it cannot be written."""
        tables = {
            size: {name: np.concatenate([part.tables[size][name] for part in self._found]) for name in first}
            for size, first in self._found[0].tables.items()
        }
        self._store.write(self._whole.condition, tables, sum(part.seconds for part in self._found))
        self._store.drop_ranges(self._whole.condition)

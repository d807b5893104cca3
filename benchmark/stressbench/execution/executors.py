"""Who computes the cells of runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Protocol

from stressbench.errors import UserError
from stressbench.execution.cells import Cell, CellWorker, Measured
from stressbench.execution.device import pick_device
from stressbench.execution.limits import limited
from stressbench.execution.request import Computing, RunRequest
from stressbench.results.conditions import describe

if TYPE_CHECKING:
    from stressbench._util.terminal import Screen
    from stressbench.execution.runner import Run
    from stressbench.record import Record


class Executor(Protocol):
    """Computes cells of runs, in any order. It writes nothing: whoever asks for the results commits them."""

    @property
    def name(self) -> str:
        """What records call it."""
        ...

    @property
    def hungry(self) -> bool:
        """Whether it could use the cells of another run now."""
        ...

    def submit(self, run: Run) -> None:
        """Take the cells of a run; `run.advance` is called as their images are done."""
        ...

    def next(self) -> tuple[Run, Measured | UserError]:
        """The next finished cell of a run, or the first images of a long one, or the error that ends the run."""
        ...

    def drop(self, run: Run) -> None:
        """Forget the cells of a run that has ended early."""
        ...


class Local:
    """Computes in this process, one run after the other."""

    name = "this process"

    def __init__(self) -> None:
        self._cells: deque[Cell] = deque()
        self._worker: CellWorker | None = None

    @property
    def hungry(self) -> bool:
        return not self._cells

    def submit(self, run: Run) -> None:
        self._run, self._worker = run, None
        self._cells.extend(run.cells)

    def next(self) -> tuple[Run, Measured | UserError]:
        run, cell = self._run, self._cells.popleft()
        try:
            if self._worker is None:
                self._worker = CellWorker(run.inputs, run.images, run.advance)
            with limited(run.timeout, f"under {describe(cell.condition)}, {run.plan.model} or {run.plan.suite_entry}"):
                measured = self._worker(cell, run.first_batch.keep if run.first_batch.findings is None else None)
        except UserError as error:
            return run, error
        self._cells.extendleft(cell.after(measured.cell))
        return run, measured

    def drop(self, run: Run) -> None:
        if run is self._run:
            self._cells.clear()


@contextmanager
def executor(computing: Computing, request: RunRequest, screen: Screen) -> Iterator[Executor]:
    """The executor that was asked for; raises `UserError` where it cannot be had."""
    if computing.executor == "local":
        if computing.workers or computing.address:
            raise UserError("--workers and --address are for --executor ray: pass that too")
        yield Local()
        return
    from stressbench.execution.ray_pool import pool

    device = pick_device(request.device).type
    with pool(computing.workers, computing.address, request.timeout, device, screen) as found:
        yield found


def alone(run: Run, screen: Screen) -> Record:
    """A run by itself, from the beginning, in this process; raises `UserError` where it fails."""
    executor = Local()
    with closing(run):
        run.open(fresh=True, screen=screen)
        executor.submit(run)
        with run.progress(screen):
            while not run.complete:
                _, measured = executor.next()
                if isinstance(measured, UserError):
                    raise measured
                run.accept(measured)
        record = run.finish()
    assert record is not None, "without a shard"
    return record

"""Cells computed by the workers of a Ray cluster."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stressbench._util.terminal import Screen
from stressbench.errors import UserError, describe
from stressbench.execution.cells import Cell, Measured
from stressbench.execution.measure import step
from stressbench.execution.worker import Answer, Worker
from stressbench.results import conditions

if TYPE_CHECKING:
    from stressbench.execution.runner import Run

# No reports to Ray's makers, GPUs of a worker that asks for none as they are, and workers that are not made to wait for
# other programs (by default they have the niceness 15).
_SETTINGS = ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_worker_niceness")
_TRIES = 3  # workers that may end over one range of images
_THREADS = 4  # of a worker on the CPU, unless it is told how many workers there are
_PATIENCE = 30.0  # seconds without any worker, until that is said
_STORE = 128 * 2**20  # bytes for results on their way


@dataclass
class _Piece:
    """A range of images of a run's cell, for one worker at a time."""

    run: Run
    cell: Cell
    judged: bool
    tries: int = 0


@dataclass
class _Busy:
    actor: Any
    piece: _Piece | None
    since: float


@contextmanager
def pool(workers: int | None, address: str | None, timeout: float | None, device: str, screen: Screen) -> Iterator[Ray]:
    """Workers on the cluster at `address`, else on one that is started for it, with the first run.

    Raises `UserError` where Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("Ray is not installed: pip install 'stressbench[ray]'") from error
    made = Ray(ray, workers, address, timeout, device, screen)
    try:
        yield made
    finally:
        made.close()


class Ray:
    """Computes ranges of images of several runs at once. A range whose worker is lost is done by another."""

    def __init__(
        self, ray: Any, workers: int | None, address: str | None, timeout: float | None, device: str, screen: Screen
    ) -> None:
        """`ray` is the module."""
        self._ray, self._timeout, self._screen, self._device = ray, timeout, screen, device
        self._workers, self._address = workers, address
        self._queue: deque[_Piece] = deque()
        self._idle: list[Any] = []
        self._busy: dict[Any, _Busy] = {}
        self._done: deque[tuple[Run, Measured | UserError]] = deque()
        self._kind: Any = None
        self._seen = time.monotonic()

    def _connect(self) -> None:
        for name in _SETTINGS:
            os.environ.setdefault(name, "0")
        mine: dict[str, Any] = {}
        if not (self._address or os.environ.get("RAY_ADDRESS")):
            mine = {"num_cpus": max(self._workers or 0, os.cpu_count() or 1), "object_store_memory": _STORE}
        try:
            context = self._ray.init(
                address=self._address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False, **mine
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"at {self._address} " if self._address else ""
            raise UserError(f"there is no Ray cluster {where}that can be used: {describe(error)}") from error
        if url := getattr(context, "dashboard_url", None):
            self._screen.note(f"Ray's dashboard is at http://{url}")

    def _hire_all(self) -> None:
        """Start the workers: each has a GPU, or its share of the processors."""
        there = self._ray.cluster_resources()
        cpus, gpus = int(there.get("CPU", 1)), float(there.get("GPU", 0)) if self._device == "cuda" else 0.0
        workers = self._workers = self._workers or max(1, int(gpus) or cpus // _THREADS)
        given = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(given) if given.isdigit() and int(given) else max(1, cpus // workers)
        self._arguments = (threads, str(Path.cwd()))
        self._kind = self._ray.remote(Worker).options(
            num_cpus=min(1.0 if gpus else threads, cpus / workers), num_gpus=min(1.0, gpus / workers)
        )
        for _ in range(workers):
            self._hire()

    @property
    def name(self) -> str:
        return f"Ray, {self._workers} worker{'s' * (self._workers != 1)}"

    @property
    def hungry(self) -> bool:
        return self._workers is None or len(self._queue) < self._workers

    def submit(self, run: Run) -> None:
        assert run.job is not None, "of a session"
        if self._kind is None:
            self._connect()
            self._hire_all()
        assert self._workers is not None, "hired"
        judged = run.first_batch.findings is None
        for cell in run.cells:
            for part in _split(run, cell, self._workers):
                self._queue.append(_Piece(run, part, judged))
                judged = False

    def next(self) -> tuple[Run, Measured | UserError]:
        while not self._done:
            while self._idle and self._queue:
                self._assign(self._idle.pop(), self._queue.popleft())
            ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=1.0)
            for reference in ready:
                self._seen = time.monotonic()
                self._collect(reference)
            self._overdue()
            if not self._idle and all(busy.piece is None for busy in self._busy.values()):
                self._waiting()
        return self._done.popleft()

    def drop(self, run: Run) -> None:
        self._queue = deque(piece for piece in self._queue if piece.run is not run)

    def close(self) -> None:
        """End the workers."""
        for actor in (*self._idle, *(busy.actor for busy in self._busy.values())):
            self._ray.kill(actor)
        self._ray.shutdown()

    def _hire(self) -> None:
        actor = self._kind.remote(*self._arguments)
        self._busy[actor.start.remote()] = _Busy(actor, None, time.monotonic())

    def _assign(self, actor: Any, piece: _Piece) -> None:
        reference = actor.measure.remote(piece.run.job, piece.run.inputs.identity(), piece.cell, piece.judged)
        self._busy[reference] = _Busy(actor, piece, time.monotonic())

    def _collect(self, reference: Any) -> None:
        busy = self._busy.pop(reference)
        piece = busy.piece
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            self._lost(busy, f"a worker has ended ({_reason(error)})", retry=True)
            return
        self._idle.append(busy.actor)
        if piece is not None and piece.run.error is None:
            self._answered(piece, answer)

    def _answered(self, piece: _Piece, answer: Answer) -> None:
        run, measured = piece.run, answer.measured
        try:
            if isinstance(measured, UserError):
                raise measured
            if answer.findings is not None:
                run.first_batch.keep(answer.findings)
        except UserError as error:
            self._done.append((run, error))
            return
        run.advance(len(measured.cell), conditions.describe(piece.cell.condition))
        for rest in piece.cell.after(measured.cell):
            # At the end, where nothing waits behind it, all workers share what one has left.
            workers = 1 if self._queue else self._workers or 1
            self._queue.extendleft(_Piece(run, part, False) for part in reversed(_split(run, rest, workers)))
        self._done.append((run, measured))

    def _lost(self, busy: _Busy, what: str, retry: bool) -> None:
        """Replace a worker; with `retry`, another does what it did."""
        piece = busy.piece
        with suppress(Exception):  # it may be gone
            self._ray.kill(busy.actor)
        self._hire()
        if piece is None or piece.run.error is not None:
            return
        piece.tries += 1
        plan = piece.run.plan
        what = f"{what} over {plan.model} · {plan.suite.name} under {conditions.describe(piece.cell.condition)}"
        if retry and piece.tries < _TRIES:
            self._screen.note(f"{what}: another takes its images")
            self._queue.appendleft(piece)
            return
        also = f", as did {_TRIES - 1} before" if retry else ""
        self._done.append((piece.run, UserError(f"{what}{also}: fix that model or suite")))

    def _overdue(self) -> None:
        if self._timeout is None:
            return
        for reference, busy in list(self._busy.items()):
            if busy.piece is not None and time.monotonic() - busy.since > self._timeout:
                del self._busy[reference]
                self._lost(busy, f"a worker took more than {self._timeout:g} seconds (--timeout)", retry=False)

    def _waiting(self) -> None:
        if time.monotonic() - self._seen > _PATIENCE:
            self._seen = time.monotonic()
            self._screen.note("waiting for a worker: the Ray cluster has none free; `ray status` shows what it has")


def _split(run: Run, cell: Cell, workers: int) -> list[Cell]:
    """A cell in ranges of whole batches, one for each worker as far as there are images; batches stay as they are."""
    plan = run.plan
    size = step(plan, cell.condition, run.inputs.sizes[-1])
    size *= max(1, -(-len(cell) // (workers * size)))
    starts = range(cell.start, cell.stop, size) if plan.suite.rows != "model" and len(cell) else [cell.start]
    if len(starts) == 1:
        return [cell]
    return [Cell(cell.condition, start, min(start + size, cell.stop)) for start in starts]


def _reason(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

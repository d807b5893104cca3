"""What a worker process of an executor does: it builds runs from their jobs, and measures ranges of images."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from stressbench._util.terminal import Screen
from stressbench.errors import UserError
from stressbench.execution.cells import Cell, CellWorker, Measured
from stressbench.execution.prepare import Job, Prepared
from stressbench.execution.request import RunRequest
from stressbench.record import Finding


@dataclass(frozen=True)
class Answer:
    """What a worker found."""

    measured: Measured | UserError
    findings: list[Finding] | None
    """About the model on its first images, where they were asked for and found."""


class Worker:
    """Keeps the last request's images, and the last run's model."""

    def __init__(self, threads: int, folder: str) -> None:
        """`threads` are torch's on the CPU; relative paths of requests count from `folder`, where it is here too."""
        torch.set_num_threads(threads)
        with suppress(OSError):
            os.chdir(folder)
        self._request: RunRequest | None = None
        self._run: tuple[int, int] | None = None

    def start(self) -> None:
        """Return as soon as the process is up."""

    def measure(self, job: Job, identity: dict[str, Any], cell: Cell, judged: bool) -> Answer:
        """A range of images of a run with this identity; with `judged`, its model is judged on its first images."""
        findings: list[Finding] = []
        try:
            if self._request != job.request:
                self._prepared = Prepared.of(job, Screen(quiet=True))
                self._request, self._run = job.request, None
            if self._run != (job.number, job.training):
                inputs, images = self._prepared.inputs(job.number, job.training)
                if (here := inputs.identity()) != identity:
                    differ = ", ".join(key for key in identity if here.get(key) != identity[key])
                    raise UserError(
                        f"a worker on {os.uname().nodename} has another {differ} than this process: give all machines "
                        "the same files and versions"
                    )
                self._worker = CellWorker(inputs, images, lambda _count, _label: None)
                self._run = (job.number, job.training)
            return Answer(self._worker(cell, findings.extend if judged else None), findings if judged else None)
        except UserError as error:
            return Answer(UserError(str(error)), None)

"""What a run asks about its model on the first images, before it computes any more of them.

The checks are those of `stressbench.testing`, on images of the dataset instead of random ones, and with the run's
weights, device and precision.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import suppress

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from stressbench._util.terminal import Screen
from stressbench.contracts import Dataset
from stressbench.datasets.cache import ImageCache
from stressbench.errors import UserError
from stressbench.execution.predict import Predictor
from stressbench.execution.store import Store
from stressbench.isolation import preserved
from stressbench.record import Finding
from stressbench.testing import requirements, run_checks
from stressbench.testing.under_test import ROUNDING, ModelUnderTest

IMAGES = 4
# Which checks are made, and what a record calls those that do not pass.
CHECKS = {
    "state": "changed-weights",
    "logits": "probability-outputs",
    "input": "changed-input",
    "stochastic": "equal-draws",
    "reproducible": "not-reproducible",
    "batch": "batch-dependent",
}
_GPU_ROUNDING, _BFLOAT16_ROUNDING = 1e-3, 5e-2

_FINDINGS = TypeAdapter(list[Finding])


def judge(predictor: Predictor, dataset: Dataset, images: Tensor) -> list[Finding]:
    """What makes a model's numbers doubtful, seen in some thirty passes of a few images (N, 3, H, W).

    Raises `UserError` for a model that does not say that it is stochastic and whose passes differ: it would be given
    one draw, and a second run would give other numbers.
    """
    rounding = _GPU_ROUNDING if images.is_cuda else ROUNDING
    if predictor.precision == "bfloat16":
        rounding = _BFLOAT16_ROUNDING
    subject = ModelUnderTest(predictor.module, dataset, images, rounding)
    checks = {check.name: check for check in requirements.CHECKS}
    findings = []
    with preserved(), predictor.autocast(images.device):
        for found in run_checks([checks[name] for name in CHECKS], subject):
            if found.check == "stochastic" and found.status == "failed" and not subject.stochastic:
                raise UserError(f"{predictor.name}: {found.detail}")
            if found.status in ("failed", "noted"):
                message = textwrap.shorten(f"the model: {found.detail}", 300, placeholder=" …")
                findings.append(Finding(check=CHECKS[found.check], message=message, source="run"))
            if found.check == "state" and findings:
                break  # further passes would change the weights again
    return findings


def first_images(images: ImageCache) -> Tensor:
    """The images that a model is judged on."""
    return images.batch(0, min(IMAGES, len(images)))[0]


def kept_findings(store: Store) -> list[Finding] | None:
    """The findings in a run's folder; None where there are none that can be read."""
    text = store.read_findings()
    with suppress(ValidationError):  # nobody but the run writes the file, so a damaged one is made again
        return None if text is None else _FINDINGS.validate_json(text)
    return None


def write_findings(store: Store, findings: Sequence[Finding]) -> None:
    """Commit findings to a run's folder."""
    store.write_findings(_FINDINGS.dump_json(list(findings), indent=2).decode() + "\n")


def beside(of_the_suite: Sequence[Finding], of_the_run: Sequence[Finding]) -> list[Finding]:
    """The suite's findings, then the run's, without those that the suite has noticed too."""
    noticed = {finding.check for finding in of_the_suite}
    return [*of_the_suite, *(finding for finding in of_the_run if finding.check not in noticed)]


class FirstBatch:
    """The findings about a run's labels and model: made once, on the first images, and kept in the run's folder."""

    def __init__(self, store: Store, screen: Screen, of_the_labels: Sequence[Finding] = ()) -> None:
        self._store, self._screen, self._of_the_labels = store, screen, of_the_labels
        self.findings = kept_findings(store)
        self._report()

    def keep(self, findings: Sequence[Finding]) -> None:
        """Commit what `judge` found, after what is known of the labels."""
        self.findings = [*self._of_the_labels, *findings]
        write_findings(self._store, self.findings)
        self._report()

    def _report(self) -> None:
        for finding in self.findings or ():
            self._screen.note(f"doubtful ({finding.check}): {finding.message}")

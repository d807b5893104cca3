"""What a run asks about its model on the first images, before it computes any more of them.

The checks are those of `stressbench.testing`, on images of the dataset instead of random ones, and with the run's
weights, device and precision.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import suppress

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from stressbench import randomness
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
KEPT = 1 << 26  # bytes of predictions that are kept through a run, or those of one image
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
    subject = ModelUnderTest(predictor.module, dataset, images, _rounding(predictor, images))
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


def _rounding(predictor: Predictor, images: Tensor) -> float:
    """How far two equal outputs may be apart, as a part of the largest one."""
    if predictor.precision == "bfloat16":
        return _BFLOAT16_ROUNDING
    return _GPU_ROUNDING if images.is_cuda else ROUNDING


class Drift:
    """Predictions of a model's first images (N, 3, H, W), which the model must repeat at any time later."""

    def __init__(self, predictor: Predictor, images: Tensor) -> None:
        self._predictor, self._images = predictor, images[:1]
        self._before = self._predicted()
        # Predictions of all draws stay until the run ends: of dense tasks, an image's may take hundreds of megabytes.
        if (fitting := min(len(images), KEPT // self._before.nbytes)) > 1:
            self._images = images[:fitting]
            self._before = self._predicted()

    def findings(self) -> list[Finding]:
        """A finding where the model has other predictions now."""
        # Draw by draw, since what is computed of all at once takes several times their memory.
        pairs = list(zip(self._before, self._predicted(), strict=True))
        largest = max(float(before.nan_to_num(0, 0, 0).abs().max()) for before, _ in pairs)  # −∞ rules a class out
        moved = max(float((now - before).nan_to_num(0).abs().max()) for before, now in pairs)
        apart = moved / max(largest, torch.finfo().tiny)
        if apart <= _rounding(self._predictor, self._images):
            return []
        message = (
            f"the model: predictions of the same images changed by up to {apart:.2g} of the largest one in the course "
            "of the run: it keeps state between batches, so that its numbers depend on what it has seen before"
        )
        return [Finding(check=CHECKS["reproducible"], message=message, source="run")]

    def _predicted(self) -> Tensor:
        count = torch.arange(len(self._images), device=self._images.device)
        return self._predictor.outputs(self._images, randomness.image_keys(randomness.derive("drift"), count))


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
        self._early: Sequence[Finding] = ()
        self.findings = kept_findings(store)
        self._report(self.findings or ())

    def keep(self, findings: Sequence[Finding]) -> None:
        """Commit what `judge` found, after what is known of the labels."""
        self._commit([*self._of_the_labels, *findings, *self._early])

    def add(self, findings: Sequence[Finding]) -> None:
        """Commit what was noticed later, unless it is known."""
        if self.findings is None:  # a worker was faster than the one that judges
            self._early = [*self._early, *findings]
        else:
            self._commit(findings)

    def _commit(self, findings: Sequence[Finding]) -> None:
        before = self.findings or []
        known = {finding.check for finding in before}
        new = [finding for finding in findings if finding.check not in known]
        self.findings = [*before, *new]
        write_findings(self._store, self.findings)
        self._report(new)

    def _report(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            self._screen.note(f"doubtful ({finding.check}): {finding.message}")

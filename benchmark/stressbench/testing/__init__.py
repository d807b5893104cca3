"""Checks of what the harness requires of a model, for the tests of a plugin and for `bench plugin check`.

from stressbench.testing import check_model

def test_mynet():
    check_model("mynet,width=3")  # by name, as it is installed
    check_model(zoo.mynet)        # or the callable itself
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from stressbench import registry
from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.errors import UserError, describe
from stressbench.testing.checks import Note, Skip
from stressbench.testing.requirements import CHECKS, Check
from stressbench.testing.under_test import Built, Fault, ModelUnderTest

Build = Callable[[Dataset], nn.Module]


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str  # a short name that stays
    requirement: str  # what was checked
    status: Literal["passed", "noted", "failed", "skipped"]
    seen: str = ""  # where it did not pass: with numbers
    change: str = ""  # where it failed or was noted: what mends it

    @property
    def detail(self) -> str:
        """What was observed and how to fix it, or the requirement that is met."""
        return "; ".join(filter(None, [self.seen, self.change])) or self.requirement

    def __str__(self) -> str:
        return f"{self.check}: {self.detail}"


def check_model(model: str | Build, dataset: Dataset | None = None, *, meta: bool = False) -> list[Finding]:
    """Run all checks on a model, and raise `AssertionError` that lists failures and what to change.

    `model` is a name with its options, as `--model` takes it, or a callable from a dataset to a module, such as an
    entry point names (`functools.partial` gives it options). It is built from a fixed seed and keeps the weights that
    it is built with, so that nothing has to be trained. Of `dataset` the image size, the classes, the mean and the
    deviation count; the images are random. `random_dataset()` is used unless one is given.

    `meta` builds the model on torch's meta device, where nothing is computed: shapes and declarations only, for large
    models.

    Returns the findings of all checks, of which none has failed: some may be noted, or skipped because they do not
    apply. Raises `UserError` for a name that is not there or a plugin that cannot be built; what a callable raises is
    not caught.
    """
    found = list(findings(model, dataset, meta=meta))
    failed = [finding for finding in found if finding.status == "failed"]
    if failed:
        name = model if isinstance(model, str) else getattr(model, "__name__", "the model")
        lines = "".join(f"\n  {finding}" for finding in failed)
        raise AssertionError(f"{name} fails {len(failed)} of {len(found)} checks:{lines}")
    return found


def findings(model: str | Build, dataset: Dataset | None = None, *, meta: bool = False) -> Iterator[Finding]:
    """The results of `check_model`, one by one, without raising for failures."""
    if isinstance(model, str):
        model = registry.resolve(model).build
    yield from run_checks(CHECKS, Built(model, dataset or random_dataset(), meta))


def run_checks(checks: Iterable[Check], subject: ModelUnderTest) -> Iterator[Finding]:
    """The finding of each check, in order; a check is skipped if one of them that it needs did not pass."""
    not_passed: set[str] = set()
    for check in checks:
        finding = _finding(check, subject, not_passed)
        if finding.status == "failed" or not_passed.intersection(check.needs):
            not_passed.add(check.name)
        yield finding


def _finding(check: Check, subject: ModelUnderTest, not_passed: set[str]) -> Finding:
    def result(status: Literal["passed", "noted", "failed", "skipped"], seen: str = "", change: str = "") -> Finding:
        return Finding(check.name, check.requirement, status, seen, change)

    missing = [name for name in check.needs if name in not_passed]
    if missing:
        return result("skipped", f"it says nothing before '{missing[0]}' passes")
    if subject.images.is_meta and check.numbers:
        return result("skipped", "the meta device has no numbers")
    try:
        check.run(subject)
    except Skip as skip:
        return result("skipped", str(skip))
    except Note as note:
        return result("noted", note.seen, note.change or check.change)
    except Fault as fault:
        return result("failed", fault.seen, fault.change or check.change)
    except UserError as error:
        return result("failed", str(error), check.change)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the model is a plugin's, and may fail in any way; sys.exit is no `Exception`
        return result("failed", f"it raised {describe(error)}", check.change)
    return result("passed")


def random_dataset(classes: int = 10, image_size: tuple[int, int] = (32, 32), n: int = 8) -> Dataset:
    """n images (3, *image_size) of independent, uniform pixels, the same ones each time, with labels 0, 1, …"""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (n, 3, *image_size), dtype=torch.uint8, generator=generator)
    return Dataset(
        "random", "test", Classification(classes), InMemory(pixels), InMemory(torch.arange(n) % classes), image_size
    )

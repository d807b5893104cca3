"""How vision models and their uncertainty hold up under stress.

    import stressbench

    record = stressbench.run(net, suite="corruption", dataset="digits", limit=100)
    record.metrics["mean_error"]

The functions are described in `docs/python-api.md`; a suite, a model or a dataset of one's own starts with the names of
the contract: `from stressbench import Metric, Stressed, StressSuite`. Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stressbench.api.data import arrays, from_dataset
    from stressbench.api.images import corrupt
    from stressbench.api.runs import compare, load, run
    from stressbench.contracts import (
        Archive,
        Axis,
        Batch,
        Classification,
        Columns,
        Composite,
        Condition,
        Dataset,
        Depth,
        Distribution,
        Fitted,
        InMemory,
        KeptFit,
        Metric,
        Metrics,
        Part,
        Plane,
        Predictor,
        Profile,
        Regression,
        Sampler,
        Segmentation,
        Source,
        Stressed,
        StressSuite,
        Suite,
        SuperResolution,
        Task,
        Traits,
        Wrapper,
    )
    from stressbench.errors import UserError
    from stressbench.recipe import Recipe
    from stressbench.record import Record
    from stressbench.testing import check_model

__version__ = "0.2.0"

_MODULES = {
    "stressbench.api.data": ("arrays", "from_dataset"),
    "stressbench.api.images": ("corrupt",),
    "stressbench.api.runs": ("compare", "load", "run"),
    "stressbench.contracts": (
        "Archive",
        "Axis",
        "Batch",
        "Classification",
        "Columns",
        "Composite",
        "Condition",
        "Dataset",
        "Depth",
        "Distribution",
        "Fitted",
        "KeptFit",
        "InMemory",
        "Metric",
        "Metrics",
        "Part",
        "Plane",
        "Predictor",
        "Profile",
        "Regression",
        "Sampler",
        "Segmentation",
        "Source",
        "StressSuite",
        "Stressed",
        "Suite",
        "SuperResolution",
        "Task",
        "Traits",
        "Wrapper",
    ),
    "stressbench.errors": ("UserError",),
    "stressbench.recipe": ("Recipe",),
    "stressbench.record": ("Record",),
    "stressbench.testing": ("check_model",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
_SUBMODULES = ("errors", "metrics", "randomness", "registry", "testing")

__all__ = [
    "Archive",
    "Axis",
    "Batch",
    "Classification",
    "Columns",
    "Composite",
    "Condition",
    "Dataset",
    "Depth",
    "Distribution",
    "Fitted",
    "InMemory",
    "KeptFit",
    "Metric",
    "Metrics",
    "Part",
    "Plane",
    "Predictor",
    "Profile",
    "Recipe",
    "Record",
    "Regression",
    "Sampler",
    "Segmentation",
    "Source",
    "StressSuite",
    "Stressed",
    "Suite",
    "SuperResolution",
    "Task",
    "Traits",
    "UserError",
    "Wrapper",
    "arrays",
    "check_model",
    "compare",
    "corrupt",
    "from_dataset",
    "load",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name in _SUBMODULES:
        return importlib.import_module(f"stressbench.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'stressbench' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})

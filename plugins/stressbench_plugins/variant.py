"""A model by another name, so that two trainings of one network lie side by side."""

from __future__ import annotations

from torch import nn

from stressbench import registry
from stressbench.contracts import Composite, Dataset
from stressbench.errors import UserError
from stressbench.registry import ModelName


def variant(dataset: Dataset, argument: ModelName, name: str) -> nn.Module:
    """The network that the argument names, whose weights are kept, and trained, under `variant:MODEL,name=NAME`.

    Raises `UserError` for a model made of models, whose parts have the weights.
    """
    module = registry.model(argument, dataset)
    if isinstance(module, Composite):
        raise UserError(f"variant:{argument} has no weights of its own: name a variant inside of {argument}")
    return module

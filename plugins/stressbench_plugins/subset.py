"""A model of all classes of a set, restricted to those that a part of the set has."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from stressbench import registry
from stressbench.contracts import Classification, Composite, Dataset, Sampler
from stressbench.errors import UserError
from stressbench.registry import ModelName


def subset(dataset: Dataset, argument: ModelName) -> nn.Module:
    """The model that the argument names, built for all classes, with the logits of the dataset's own classes alone.

    Softmax, accuracy and calibration are then those of a classifier of these classes, as ImageNet-A and ImageNet-R
    define them (Hendrycks et al., 2021). Names of tensors stay, so that files of the whole model's weights fit.

    Raises `UserError` for a dataset that is not a part of another, and for a model made of models, whose parts are
    restricted instead.
    """
    if dataset.subset is None:
        raise UserError(f"{dataset.name} has all of its classes: leave subset: out")
    whole, places = dataset.subset
    module = registry.model(argument, replace(dataset, task=Classification(whole), subset=None))
    if isinstance(module, Composite | Sampler):
        raise UserError(f"{argument} makes draws of models: restrict those instead, as in ensemble:(subset:MODEL)")
    columns = torch.tensor(places)

    def restrict(_: nn.Module, __: object, logits: Tensor) -> Tensor:
        return logits[..., columns.to(logits.device)]

    module.register_forward_hook(restrict)
    return module

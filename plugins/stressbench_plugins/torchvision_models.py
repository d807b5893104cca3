"""torchvision's image classifiers, by their names there, with torchvision's own preprocessing."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torchvision
from torch import nn
from torchvision import transforms

from stressbench.contracts import Dataset
from stressbench.errors import UserError, did_you_mean
from stressbench.registry import describe
from stressbench_plugins.preprocessing import check_classes, check_size, prepared, untrained_instead

# Two networks have further classifiers halfway, for training alone; a training here has one loss.
_ONE_OUTPUT = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}


def torchvision_model(dataset: Dataset, argument: str, weights: str = "DEFAULT", size: int | None = None) -> nn.Module:
    """The image classifier that torchvision calls `argument`, with one of its published weights, say IMAGENET1K_V1.

    With weights=none it has as many classes as the dataset, and the harness loads or trains its weights. Images are
    resized, cropped and normalised as torchvision does for these weights (or for the default ones where there are
    none), or resized to `size` pixels, and not cropped, if it is given.

    Raises `UserError` for a name or weights that torchvision does not have, and weights for another number of classes.
    """
    spec = f"torchvision:{argument}"
    check_size(size)
    names = torchvision.models.list_models(module=torchvision.models)
    if argument not in names:
        raise UserError(
            f"torchvision {torchvision.__version__} has no image classifier '{argument}': "
            f"{did_you_mean(argument, names)}torchvision.models.list_models() lists all models"
        )
    published = torchvision.models.get_model_weights(argument)
    origin = f"torchvision {torchvision.__version__}"
    if weights.lower() == "none":
        module = torchvision.models.get_model(
            argument, weights=None, num_classes=dataset.classes, **_ONE_OUTPUT.get(argument, {})
        )
        return prepared(module, _steps(published.DEFAULT, size), origin, untrained=True)
    if weights not in published.__members__:
        known = [*published.__members__, "none"]
        raise UserError(
            f"{spec} has no weights '{weights}': {did_you_mean(weights, known)}choose one of {', '.join(known)}"
        )
    chosen = published[weights]
    check_classes(spec, len(chosen.meta["categories"]), dataset, untrained_instead(f"{spec},weights=none"))
    return prepared(_loaded(argument, chosen), _steps(chosen, size), f"{origin}, {chosen}", untrained=False)


def _loaded(name: str, chosen: Any) -> nn.Module:
    """The network with its published weights, which torchvision keeps in torch's cache."""
    try:
        with _only_tensors():
            module: nn.Module = torchvision.models.get_model(name, weights=chosen, progress=False)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"the file for {chosen} in torch's cache holds more than tensors and would have to be unpickled, so it is "
            "refused: remove it, and it is fetched again"
        ) from error
    except (OSError, RuntimeError) as error:  # the network, the disk, a checksum
        raise UserError(
            f"{chosen} cannot be had from {chosen.url} ({describe(error)}): connect this machine, or put that file "
            "into the folder hub/checkpoints of torch's cache"
        ) from error
    if not all(tensor.isfinite().all() for tensor in module.state_dict().values()):
        raise UserError(f"{chosen} holds weights that are not finite: remove the file from torch's cache")
    return module


@contextmanager
def _only_tensors() -> Iterator[None]:
    """Inside, torch's restricted reader is the only one; torchvision asks for the other one and has no option."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _steps(chosen: Any, size: int | None) -> list[Any]:
    """What torchvision's preset for some weights does, step by step."""
    preset = chosen.transforms()
    resized, cropped = (preset.resize_size, preset.crop_size) if size is None else ([size], [size])
    return [
        transforms.Resize(resized, interpolation=preset.interpolation),
        transforms.CenterCrop(cropped),
        transforms.Normalize(preset.mean, preset.std),
    ]

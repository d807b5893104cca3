"""torchvision's image classifiers and segmentation networks, by their names there, with its own preprocessing."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torchvision
from torch import Tensor, nn
from torchvision import transforms

from stressbench.contracts import Dataset, Segmentation
from stressbench.errors import UserError, describe, did_you_mean
from stressbench_plugins.preprocessing import check_classes, check_size, prepared, untrained_instead

# Two classifiers and some segmentation networks have further outputs halfway, for training alone; a training here has
# one loss. Segmentation networks would fetch a trained encoder by themselves.
_ONE_OUTPUT = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}
_SEGMENTATION = {"weights_backbone": None, "aux_loss": False}


def torchvision_model(dataset: Dataset, argument: str, weights: str = "DEFAULT", size: int | None = None) -> nn.Module:
    """The network that torchvision calls `argument`, with one of its published weights, say IMAGENET1K_V1.

    With weights=none it has as many classes as the dataset, and the harness loads or trains its weights. Images are
    resized, cropped and normalised as torchvision does for these weights (or for the default ones where there are
    none), or resized to `size` pixels, and not cropped, if it is given.

    It is an image classifier, or on a segmentation dataset a segmentation network, whose images are normalised and keep
    their size; torchvision's own preset makes them 520 pixels high.

    Raises `UserError` for a name or weights that torchvision does not have, and weights for another number of classes.
    """
    spec, dense = f"torchvision:{argument}", isinstance(dataset.task, Segmentation)
    check_size(size)
    if dense and size is not None:
        raise UserError(f"size={size} is for classifiers; segmentation networks take images as they are: leave it out")
    _require_name(argument, dense)
    published = torchvision.models.get_model_weights(argument)
    source = f"torchvision {torchvision.__version__}"
    if untrained := weights.lower() == "none":
        options = _SEGMENTATION if dense else _ONE_OUTPUT.get(argument, {})
        module = torchvision.models.get_model(argument, weights=None, num_classes=dataset.classes, **options)
        chosen = published.DEFAULT
    else:
        if weights not in published.__members__:
            known = [*published.__members__, "none"]
            raise UserError(
                f"{spec} has no weights '{weights}': {did_you_mean(weights, known)}choose one of {', '.join(known)}"
            )
        chosen = published[weights]
        check_classes(spec, len(chosen.meta["categories"]), dataset, untrained_instead(f"{spec},weights=none"))
        module, source = _loaded(argument, chosen), f"{source}, {chosen}"
    if dense:
        return _segmenting(module, chosen, source, untrained)
    return prepared(module, _steps(chosen, size), source, untrained)


def _require_name(argument: str, dense: bool) -> None:
    package, kind = torchvision.models, "image classifier"
    if dense:
        package, kind = torchvision.models.segmentation, "segmentation network"
    names = torchvision.models.list_models(module=package)
    if argument not in names:
        raise UserError(
            f"torchvision {torchvision.__version__} has no {kind} '{argument}': {did_you_mean(argument, names)}"
            "torchvision.models.list_models() lists all models"
        )


def _segmenting(module: nn.Module, chosen: Any, source: str, untrained: bool) -> nn.Module:
    """The network, which now takes images in [0, 1] and returns the logits of its last classifier alone."""
    preset = chosen.transforms()
    normalise = transforms.Normalize(preset.mean, preset.std)

    def before(_: nn.Module, args: tuple[Tensor]) -> Tensor:
        images: Tensor = normalise(args[0])
        return images

    def after(_: nn.Module, __: tuple[Tensor], outputs: Mapping[str, Tensor]) -> Tensor:
        return outputs["out"]

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)
    module.source = source  # type: ignore[assignment]
    module.untrained = untrained  # type: ignore[assignment]
    return module


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

"""A checkpoint whose network wants normalised input: the normalisation as a part of the model, its tensors kept."""

from __future__ import annotations

from torch import Tensor, nn

from stressbench import registry
from stressbench.contracts import Composite, Dataset
from stressbench.errors import UserError
from stressbench.registry import ModelName
from stressbench_plugins.layers import Normalise

Channels = tuple[float, ...]

# Mean and standard deviation as training scripts have them: torchvision's, and those of kuangliu/pytorch-cifar.
KNOWN: dict[str, tuple[Channels, Channels]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


class Normalised:
    """A forward pre-hook that takes (x − mean) ÷ std of images (N, 3, H, W), channel by channel."""

    def __init__(self, mean: Channels, std: Channels) -> None:
        self._mean, self._std = mean, std

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        images, *rest = args
        mean, std = (images.new_tensor(values).view(-1, 1, 1) for values in (self._mean, self._std))
        return ((images - mean) / std, *rest)


def normalise(dataset: Dataset, argument: ModelName, mean: str, std: str | None = None) -> nn.Module:
    """The network that the argument names, given (x − mean) ÷ std of each image x in [0, 1]; files of its weights fit.

    `mean` is "imagenet", "cifar10", "cifar100" or "half" (0.5 and 0.5), which have their own `std`, or a value or three
    joined by +, as in `mean=0.49+0.48+0.45,std=0.25`. Values are of images in [0, 1], not in 0 … 255.

    Raises `UserError` for other values, for a network that normalises its input itself, and for a model made of models,
    whose parts are normalised instead.
    """
    means, deviations = _statistics(mean, std)
    module = registry.model(argument, dataset)
    if isinstance(module, Composite):
        raise UserError(
            f"{argument} is made of models: normalise those instead, as in ensemble:(normalise:MODEL,mean=imagenet)"
        )
    if any(isinstance(layer, Normalise) for layer in module.modules()) or module._forward_pre_hooks:
        raise UserError(f"{argument} prepares its input itself, which would be normalised twice: leave normalise: out")
    module.register_forward_pre_hook(Normalised(means, deviations))
    return module


def _statistics(mean: str, std: str | None) -> tuple[Channels, Channels]:
    if mean in KNOWN:
        if std is not None:
            raise UserError(f"mean={mean} has its own std: leave std={std} out, or write the mean as numbers")
        return KNOWN[mean]
    if std is None:
        raise UserError(f"mean={mean} needs a std: expected mean={'|'.join(KNOWN)}, or numbers as in mean=0.5,std=0.25")
    means, deviations = _numbers("mean", mean), _numbers("std", std)
    if not all(0 <= value <= 1 for value in means) or not all(0 < value <= 1 for value in deviations):
        raise UserError(f"invalid mean={mean},std={std}: images are in [0, 1], so divide values for 0 … 255 by 255")
    return means, deviations


def _numbers(name: str, text: str) -> Channels:
    try:
        values = tuple(float(part) for part in text.split("+"))
    except ValueError as error:
        raise UserError(f"invalid {name}={text}: expected one number or three joined by +") from error
    if len(values) not in (1, 3):
        raise UserError(f"invalid {name}={text}: expected one number, or three joined by +")
    return values

"""How a model is trained, as numbers and two optional functions: what a plugin in `stressbench.recipes` returns.

    recipe     def myrecipe(dataset: Dataset, module: nn.Module, **options) -> Recipe

A recipe that builds on another takes that one's name as its `argument` (`mine:paper,strength=3`) and starts from
`registry.recipe(argument, dataset, module)`. Every field below that is a number or a word is an option of every recipe,
too: `short,epochs=8,flip=false`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt

from stressbench import registry
from stressbench.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from stressbench.contracts import Dataset
    from stressbench.record import Precision, TrainingInfo

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
TrainingPrecision = Literal["auto", "float32", "bfloat16"]

# Images (N, 3, H, W), float32 in [0, 1], after crops and mirroring, their targets, and a key for each image and epoch
# (`stressbench.randomness`) → the images and targets that the loss is given.
Augment = Callable[["Tensor", "Tensor", "Tensor"], tuple["Tensor", "Tensor"]]
# A network in training mode, and a step's images and targets → the number whose gradient is followed.
Loss = Callable[["nn.Module", "Tensor", "Tensor"], "Tensor"]

# Fields of a `record.TrainingInfo`, by what weights files call them.
_METADATA = {
    "spec": "model",
    "precision": "arithmetic",
    **{
        name: name
        for name in (
            *("seed", "dataset", "split", "fingerprint", "validation", "recipe", "epochs"),
            *("measured_on", "seconds", "device", "device_name"),
        )
    },
}

DEFAULT = "fast"
"""The recipe that trains a model unless another one is named."""


@dataclass(frozen=True)
class Recipe:
    """SGD or Adam on the loss of the dataset's task, with a learning rate for each step and random crops and flips."""

    epochs: Count
    batch_size: Count
    learning_rate: Positive
    """The highest."""
    schedule: Literal["steps", "one-cycle"]
    optimiser: Literal["sgd", "adam"] = "sgd"
    momentum: NotNegative = 0.9
    """Of SGD; of Adam, β₁ (β₂ is 0.999)."""
    nesterov: bool = False
    weight_decay: NotNegative = 5e-4
    decay_norm_and_bias: bool = True
    """Whether weight decay applies to the parameters of normalisation and to biases, too."""
    warmup: NotNegative = 1.0
    """Epochs, at the start of the `epochs`, in which the learning rate rises linearly."""
    milestones: tuple[int, ...] = ()
    """Schedule "steps": the epochs after which the learning rate is multiplied by `factor`."""
    factor: Positive = 1.0
    padding: Annotated[int, Ge(0)] = 4
    """Random crops are taken from the image with this many black pixels around it."""
    flip: bool = True
    """Whether half of the images are mirrored, left to right."""
    clip: Positive = math.inf
    """A longer gradient is scaled down to this norm."""
    draws: Count = 1
    """Draws of a stochastic network in each step, whose mean prediction the loss is of."""
    precision: TrainingPrecision = "auto"
    """Of convolutions and the like, under autocast; weights, loss and evaluation are float32 throughout.

    "auto" is bfloat16 on CUDA and float32 on the CPU, since many CPUs are slower in bfloat16.
    """
    augment: Augment | None = None
    """More augmentation, as a function of a module or a frozen dataclass, so that its repr can be recorded."""
    loss: Loss | None = None
    """In place of the mean loss of the dataset's task, in the same form.

    Parameters of a loss that is a module, such as a discriminator's, are trained beside the network's, by the same
    optimiser and the same gradient, and are left behind at the end.
    """
    name: str = "unnamed"
    """What selects it, with its options; set by `registry.recipe`, and recorded with the weights."""

    def arithmetic(self, device: torch.device) -> Precision:
        """The precision that is used on a device."""
        if self.precision == "auto":
            return "bfloat16" if device.type == "cuda" else "float32"
        return self.precision

    def with_epochs(self, epochs: int) -> Recipe:
        """The same recipe in fewer or more epochs, its milestones moved in proportion."""
        if epochs < 1:
            raise UserError(f"invalid epochs={epochs}: expected 1 or more")
        milestones = tuple(round(m * epochs / self.epochs) for m in self.milestones)
        return replace(self, epochs=epochs, milestones=milestones, warmup=min(self.warmup, epochs / 4))

    def with_options(self, **options: Any) -> Recipe:
        """The recipe with other values of its fields; other `epochs` move its milestones first."""
        epochs = options.pop("epochs", self.epochs)
        recipe = self if epochs == self.epochs else self.with_epochs(epochs)
        return replace(recipe, **options)

    def rate(self, epoch: float) -> float:
        """The learning rate at a moment in [0, epochs), in epochs.

        It rises linearly from 0 over `warmup` epochs; then it is `learning_rate` times `factor` for each milestone
        behind ("steps"), or falls linearly to 0 at the end ("one-cycle"; Smith and Topin, 2018).
        """
        if epoch < self.warmup:
            return self.learning_rate * epoch / self.warmup
        if self.schedule == "one-cycle":
            return self.learning_rate * (self.epochs - epoch) / (self.epochs - self.warmup)
        return self.learning_rate * self.factor ** sum(epoch >= m for m in self.milestones)

    def described(self) -> dict[str, str]:
        """Every field as text, for the metadata of files: functions by their module and name, objects by their repr."""
        return {one.name: _text(getattr(self, one.name)) for one in fields(self)}


# Options of a training that no recipe has a say in.
_NO_FIELDS = ("recipe", "validation", "start", "add", "cuda_graph")


@dataclass(frozen=True)
class Options:
    """What a person asks of a training: a recipe and what is to differ from it, None where the recipe decides.

    The options of `bench train` and the keys of a sweep's [train] are made from these fields.
    """

    recipe: str = field(
        default=DEFAULT,
        metadata={"help": "The recipe, with options as NAME,option=value; `bench list recipes` shows all."},
    )
    epochs: Count | None = field(default=None, metadata={"help": "Fewer or more epochs than the recipe's."})
    learning_rate: Positive | None = field(default=None, metadata={"help": "Instead of the recipe's highest."})
    flip: bool | None = field(default=None, metadata={"help": "Mirror half of the images, left to right, or none."})
    draws: Count | None = field(
        default=None,
        metadata={
            "help": "MC dropout: the loss is of the mean prediction of so many draws, at so many times the cost."
        },
    )
    precision: TrainingPrecision | None = field(
        default=None,
        metadata={
            "help": "bfloat16 is autocast, twice as fast on CPUs with AVX512-BF16 or AMX; auto, the recipes' default: "
            "bfloat16 on a GPU, else float32."
        },
    )
    validation: Annotated[int, Ge(0)] = field(
        default=0,
        metadata={
            "help": "Hold out so many training images, always the same, and measure on them in place of the test split."
        },
    )

    start: str | None = field(
        default=None,
        metadata={
            "help": "Fine-tune: the weights to begin with, a file, or the name of a model trained on this dataset with "
            "the same seed."
        },
    )
    add: str | None = field(
        default=None,
        metadata={"help": "A file of `bench acquire`, whose images of the dataset's pool are trained on, too."},
    )
    cuda_graph: bool = field(
        default=False,
        metadata={
            "help": "Replay steps from a CUDA graph: several times faster for a small network on a GPU, whose weights "
            "are the same."
        },
    )

    def applied(self, module: nn.Module, dataset: Dataset) -> Recipe:
        """The recipe as it was asked for, for a network, on the CPU, and a dataset.

        Raises `UserError` for an unknown recipe and for several draws of a network whose draws are all the same.
        """
        asked = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _NO_FIELDS}
        from stressbench.contracts import traits

        recipe = registry.recipe(self.recipe, dataset, module)
        recipe = recipe.with_options(**{name: value for name, value in asked.items() if value is not None})
        if recipe.draws > 1 and not traits(module).stochastic:
            raise UserError(
                f"training with {recipe.draws} draws is for stochastic models, such as MC dropout, and this model's "
                "predictions are always the same: leave --draws out, or choose another model"
            )
        return recipe


NAMES = tuple(dict.fromkeys(one.name for one in (*fields(Recipe), *fields(Options))))
"""The fields of a recipe and the options of a training."""


def training_info(metadata: Mapping[str, str]) -> TrainingInfo | None:
    """What the metadata of a weights file says of its training; None for a file that `bench train` did not write.

    Names that are neither a field of a recipe, nor an option of a training, nor otherwise known are metrics.
    """
    from stressbench.record import TrainingInfo

    left: dict[str, object] = dict(metadata)
    known = {name: left.pop(old, None) for name, old in _METADATA.items()}
    settings = {name: left.pop(name) for name in NAMES if name in left}
    versions = {name: left.pop(name) for name in ("stressbench", "torch", "torchvision") if name in left}
    try:
        known |= {name: int(str(known[name])) for name in ("seed", "validation", "epochs")}
        known["seconds"] = float(str(known["seconds"]))
        metrics = {name: float(str(value)) for name, value in sorted(left.items())}
        return TrainingInfo.model_validate({**known, "settings": settings, "versions": versions, "metrics": metrics})
    except ValueError:  # pydantic's, too
        return None


def _text(value: object) -> str:
    qualified = getattr(value, "__qualname__", None)
    return str(value) if qualified is None else f"{getattr(value, '__module__', '')}.{qualified}"

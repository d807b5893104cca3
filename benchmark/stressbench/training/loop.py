"""The training loop: one network, one dataset, one recipe."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stressbench import metrics, randomness, registry
from stressbench.contracts import Classification, Dataset, Segmentation, Task
from stressbench.datasets.cache import read, read_targets, to_float
from stressbench.errors import UserError, plugin_errors
from stressbench.execution.layout import arrange
from stressbench.isolation import preserved
from stressbench.recipe import Recipe
from stressbench.training import evaluation
from stressbench.training.augmentation import cropped
from stressbench.training.evaluation import Measured, evaluate
from stressbench.training.steps import GraphedStep, Step

# Called with the images done, the images in all epochs, and where the training stands, for a person.
Report = Callable[[int, int, str], None]

_CUDA_REPORT_EVERY = 20  # steps; reading the loss waits for the device
# A mean loss over an epoch of so many times that of guessing, log C, comes down again in no training worth having.
_DIVERGED = 10
# What the optimisers keep of each parameter, and what it is called in a snapshot.
_STATE = {"momentum_buffer": "momentum", "exp_avg": "mean", "exp_avg_sq": "square", "step": "step"}


@dataclass(frozen=True)
class Epoch:
    """The results of an epoch: a row of the learning curves."""

    epoch: int  # 1 … the recipe's
    step: int  # steps done at its end
    learning_rate: float  # of its last step
    train_loss: float  # mean over its steps, on augmented images, nats
    held_out: Measured | None  # at its end; None without a held-out set
    seconds: float  # the measuring included
    images_per_second: float  # of the training alone


@dataclass(frozen=True)
class Snapshot:
    """A training at the end of an epoch: everything that is needed to resume it exactly."""

    tensors: dict[str, Tensor]  # "model.*", "loss.*", "random.*", and the optimiser's, named by `_STATE`
    epochs: list[Epoch]


def fresh(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose initial weights depend on the seed alone; torch's generator is restored."""
    with _seeded(randomness.derive("initialisation", seed), torch.device("cpu")):
        return build()


def train(
    module: nn.Module,
    train_set: Dataset,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    report: Report,
    held_out: Dataset | None = None,
    start: Snapshot | None = None,
    keep: Callable[[Snapshot], None] | None = None,
    cuda_graph: bool = False,
) -> list[Epoch]:
    """Train a network in place, measured on a held-out set after each epoch; leaves it on `device`, in eval mode.

    The images are kept on the device as they are stored, uint8, and are augmented there. On the CPU the weights
    depend on the initial weights and the seed alone, bit for bit, given one machine and number of threads, also where
    the training goes on from the snapshot `start` that an earlier one gave to `keep` after an epoch. Where the recipe
    says bfloat16, that is what autocast deems safe. The held-out set decides nothing. With `cuda_graph`, steps on a GPU
    are replayed from a CUDA graph.

    Raises `UserError` when the network fails or diverges, when the device has too little memory for it, and for a
    network whose steps cannot be captured.
    Torch's generators are left as they were.
    """
    fault = f"{registry.built_by(module) or 'the network'} failed while it was trained"
    # Dropout draws from torch's own generator.
    with preserved(), _seeded(randomness.derive("training", seed), device), _tuned(device):
        arrange(module.to(device), train_set.image_size)
        try:
            work = _Training(module, train_set, recipe, seed, device, report, held_out, cuda_graph)
            if start is not None:
                work.restore(start)
            work.tell(0)
            for _ in range(len(work.epochs), recipe.epochs):
                with plugin_errors(fault, passing=(torch.OutOfMemoryError,)):
                    work.run()
                if keep is not None:
                    keep(work.snapshot())
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"the device has too little memory to train on {len(train_set.images):,} images in batches of "
                f"{recipe.batch_size}: end what else is using it, or train on a larger one"
            ) from error
    module.eval()
    return work.epochs


class _Training:
    """A network with its images, its optimiser and its random numbers, between two epochs."""

    def __init__(
        self,
        module: nn.Module,
        train_set: Dataset,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        report: Report,
        held_out: Dataset | None,
        cuda_graph: bool,
    ) -> None:
        self.epochs: list[Epoch] = []
        self._module, self._recipe, self._device, self._report = module, recipe, device, report
        self._held_out, self._seed = held_out, seed
        self._images = read(train_set, 0, len(train_set.images)).to(device)
        self._targets = read_targets(train_set, 0, len(train_set.images)).to(device)
        self._task = train_set.task
        classes = getattr(self._task, "classes", None)
        self._highest = math.inf if classes is None else _DIVERGED * math.log(classes)
        # Batches of equal size: a last one of a few images would unsettle batch normalisation.
        self._steps = math.ceil(len(self._images) / recipe.batch_size)  # of an epoch
        # Order and augmentation are drawn on the CPU, and so are the same on every device.
        self._generator = torch.Generator().manual_seed(randomness.derive("augmentation", seed))
        self._trained = nn.ModuleDict({"model": module})
        if isinstance(recipe.loss, nn.Module):
            self._trained["loss"] = recipe.loss.to(device)
        self._optimiser = _optimiser(self._trained, recipe)
        self._step = (GraphedStep if cuda_graph else Step)(self._loss, list(self._trained.parameters()))

    def _loss(self, images: Tensor, targets: Tensor) -> Tensor:
        recipe = self._recipe
        low = recipe.arithmetic(self._device) == "bfloat16"
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=low):
            if recipe.loss is not None:
                return recipe.loss(self._module, images, targets)
            return _loss(self._module, images, targets, self._task, recipe.draws)

    def run(self) -> None:
        """Run the next epoch."""
        began = time.perf_counter()
        loss = self._train()
        trained = time.perf_counter()
        # Before it is measured, and before it is kept.
        if loss > self._highest or not self._finite():
            raise self._diverged()
        measured = None if self._held_out is None else evaluate(self._module, self._held_out, self._device)
        self.epochs.append(
            Epoch(
                epoch=len(self.epochs) + 1,
                step=(len(self.epochs) + 1) * self._steps,
                learning_rate=self._optimiser.param_groups[0]["lr"],
                train_loss=loss,
                held_out=measured,
                seconds=time.perf_counter() - began,
                images_per_second=len(self._images) / (trained - began),
            )
        )
        self.tell(0, loss)

    def _augmentation(self) -> int:
        """The seed of what the recipe's own augmentation draws in this epoch."""
        return randomness.derive("augment", self._seed, len(self.epochs))

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All that are trained, by the names that a snapshot has for what the optimiser keeps of them."""
        for name, parameter in self._trained.named_parameters():
            yield name.removeprefix("model."), parameter

    def snapshot(self) -> Snapshot:
        tensors = dict(self._trained.state_dict())
        for name, parameter in self._parameters():
            for key, prefix in _STATE.items():
                if key in self._optimiser.state.get(parameter, {}):
                    tensors[f"{prefix}.{name}"] = self._optimiser.state[parameter][key]
        tensors["random.augmentation"] = self._generator.get_state()
        tensors["random.cpu"] = torch.get_rng_state()
        if self._device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self._device)
        return Snapshot(tensors, list(self.epochs))

    def restore(self, snapshot: Snapshot) -> None:
        self.epochs = list(snapshot.epochs)
        tensors = snapshot.tensors
        self._trained.load_state_dict({name: tensors[name] for name in self._trained.state_dict()})
        for name, parameter in self._parameters():
            for key, prefix in _STATE.items():
                if (kept := tensors.get(f"{prefix}.{name}")) is not None:
                    # Moments in the parameter's memory format, which the fused optimiser counts on.
                    like = torch.empty_like(parameter) if kept.shape == parameter.shape else torch.empty_like(kept)
                    self._optimiser.state[parameter][key] = like.detach().copy_(kept)
        self._generator.set_state(tensors["random.augmentation"])
        torch.set_rng_state(tensors["random.cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self._device)

    def tell(self, seen: int, loss: float | None = None) -> None:
        """Report progress: `seen` images of an epoch, with the loss."""
        n, last = len(self._images), self.epochs[-1].held_out if self.epochs else None
        epoch = len(self.epochs) + (seen > 0 or loss is None)
        progress = f"epoch {min(epoch, self._recipe.epochs)} of {self._recipe.epochs}"
        if loss is not None:
            progress += f", loss {loss:.3f}"
        if self._held_out is not None and last is not None:
            progress += f"; {self._held_out.split} {evaluation.describe(last)}"
        self._report(len(self.epochs) * n + seen, self._recipe.epochs * n, progress)

    def _train(self) -> float:
        """The steps of an epoch; returns their mean loss."""
        recipe = self._recipe
        every = _CUDA_REPORT_EVERY if self._device.type == "cuda" else 1
        before = len(self.epochs) * self._steps
        losses: list[Tensor] = []
        reported = seen = 0
        self._module.train()
        order = torch.randperm(len(self._images), generator=self._generator).to(self._device)
        for chosen in order.tensor_split(self._steps):
            for group in self._optimiser.param_groups:
                group["lr"] = recipe.rate((before + len(losses) + 0.5) / self._steps)
            pixels, targets = cropped(self._images[chosen], self._targets[chosen], self._task, recipe, self._generator)
            images = to_float(pixels, self._device)
            if recipe.augment is not None:
                keys = randomness.image_keys(self._augmentation(), chosen)
                images, targets = recipe.augment(images, targets, keys)
            losses.append(self._step(images, targets))
            if recipe.clip < math.inf:
                nn.utils.clip_grad_norm_(self._module.parameters(), recipe.clip)
            self._optimiser.step()
            seen += len(chosen)
            if len(losses) % every == 0 and len(losses) < self._steps:
                self.tell(seen, self._mean(losses[reported:]))
                reported = len(losses)
        return self._mean(losses)

    def _mean(self, losses: list[Tensor]) -> float:
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise self._diverged()
        return mean

    def _finite(self) -> bool:
        return all(bool(tensor.isfinite().all()) for tensor in self._trained.state_dict().values())

    def _diverged(self) -> UserError:
        return UserError(
            f"training diverged in epoch {len(self.epochs) + 1}: the loss or the weights stopped being finite, or the "
            f"loss was far above that of guessing (recipe {self._recipe.name}, highest learning rate "
            f"{self._recipe.learning_rate}); give a lower --learning-rate, or another --recipe"
        )


def _optimiser(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    groups, rate, decay = _parameter_groups(module, recipe), recipe.learning_rate, recipe.weight_decay
    if recipe.optimiser == "adam":
        return torch.optim.Adam(groups, lr=rate, betas=(recipe.momentum, 0.999), weight_decay=decay, fused=True)
    return torch.optim.SGD(
        groups, lr=rate, momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=decay, fused=True
    )


def _parameter_groups(module: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The optimiser's groups of parameters: those with the recipe's weight decay, and those with none."""
    if recipe.decay_norm_and_bias:
        return [{"params": list(module.parameters())}]
    # Batch normalisation's scales and shifts and all biases are vectors, all other parameters are not.
    vectors = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    others = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    return [{"params": others}, {"params": vectors, "weight_decay": 0.0}]


def _loss(module: nn.Module, images: Tensor, targets: Tensor, task: Task, draws: int) -> Tensor:
    """The mean over images of the task's loss of the mean prediction of so many draws.

    Of classes, that is −log p̄(y | x), p̄ = (1/S) Σ_s p_s: the training-phase ensemble of Park and Kim (2022, appendices
    D.3 and D.4). What is averaged is the confidence, not the loss, so that the variance of the loss falls with S. Each
    draw is a pass of its own, by itself also in batch normalisation, of the same augmented images.
    """
    if draws == 1:
        return task.loss(module(images).float(), targets).mean()
    outputs = torch.stack([module(images).float() for _ in range(draws)])
    has_classes = isinstance(task, Classification | Segmentation)
    mean = metrics.log_mean_probability(outputs.log_softmax(dim=2)) if has_classes else outputs.mean(dim=0)
    return task.loss(mean, targets).mean()


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's generators and restores them at the end."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _tuned(device: torch.device) -> Iterator[None]:
    """Lets cuDNN choose the fastest kernels, since all batches of a training have one size."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before

"""The training loop: one network, one dataset, one recipe."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import metrics, randomness, registry
from stressbench.contracts import Dataset
from stressbench.datasets.resident import read
from stressbench.errors import UserError
from stressbench.predict import forbid_tf32
from stressbench.training.recipes import Recipe

# Called with the images done, the images in all epochs, and where the training stands, for a person.
Report = Callable[[int, int, str], None]

_EVALUATION_BATCH = {"cpu": 100, "cuda": 1000}
_CUDA_REPORT_EVERY = 20  # steps; reading the loss waits for the device
# A mean loss over an epoch of so many times that of guessing, log C, comes down again in no training worth having.
_DIVERGED = 10


@dataclass(frozen=True)
class Measured:
    """Single passes over a held-out set."""

    accuracy: float  # fraction in [0, 1]
    nll: float  # nats
    ece: float  # fraction in [0, 1], ten bins


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: a row of the curves."""

    epoch: int  # 1 … the recipe's
    step: int  # steps done at its end
    learning_rate: float  # of its last step
    train_loss: float  # mean over its steps, on augmented images, nats
    held_out: Measured | None  # at its end; None without a held-out set
    seconds: float  # the measuring included
    images_per_second: float  # of the training alone


@dataclass(frozen=True)
class Snapshot:
    """A training at the end of an epoch: all that it takes to go on as if it had never stopped."""

    tensors: dict[str, Tensor]  # "model.*", "momentum.*" and "random.*"
    epochs: list[Epoch]


def fresh(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose initial weights depend on the seed alone; torch's generator is left as it was."""
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
) -> list[Epoch]:
    """Train a network in place, measured on a held-out set after each epoch; leaves it on `device`, in eval mode.

    The images are kept on the device as they are stored, uint8, and are augmented there. On the CPU the weights
    depend on the initial weights and the seed alone, bit for bit, given one machine and number of threads, also where
    the training goes on from the snapshot `start` that an earlier one gave to `keep` after an epoch. Where the recipe
    says bfloat16, that is what autocast deems safe. The held-out set decides nothing.

    Raises `UserError` when the network fails or diverges, and when the device has too little memory for it.
    Torch's generators are left as they were.
    """
    fault = f"{registry.origin(module) or 'the network'} failed while it was trained"
    # Dropout draws from torch's own generator.
    with _seeded(randomness.derive("training", seed), device), _tuned(device):
        module.to(device).to(memory_format=torch.channels_last)
        try:
            work = _Training(module, train_set, recipe, seed, device, report)
            if start is not None:
                work.restore(start)
            work.tell(0)
            for _ in range(len(work.epochs), recipe.epochs):
                with registry.blamed(fault, passing=(torch.OutOfMemoryError,)):
                    work.run(held_out)
                if keep is not None:
                    keep(work.snapshot())
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"the device has too little memory to train on {len(train_set.images):,} images in batches of "
                f"{recipe.batch_size}: end what else is using it, or train on a larger one"
            ) from error
    module.eval()
    return work.epochs


def evaluate(module: nn.Module, dataset: Dataset, device: torch.device) -> Measured:
    """Measure single passes over a dataset in float32, in eval mode, which the network is left in.

    Of a stochastic network this is one draw for each image, always the same: less than an ensemble of draws reaches.
    """
    module.eval()
    forbid_tf32()
    size = _EVALUATION_BATCH[device.type]
    seed = randomness.derive("evaluation")
    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.inference_mode(), _seeded(0, device):
        for begin in range(0, len(dataset.images), size):
            end = min(begin + size, len(dataset.images))
            images = _floats(read(dataset, begin, end).to(device))
            labels = dataset.labels[begin:end].to(device)
            with randomness.draw(randomness.image_keys(seed, torch.arange(begin, end, device=device)), 0):
                log_p = module(images).float().log_softmax(dim=1)
            confidence, prediction = log_p.max(dim=1)
            columns.append((prediction == labels, metrics.negative_log_likelihood(log_p, labels), confidence.exp()))
    correct, nll, confidence = (torch.cat(column).double() for column in zip(*columns, strict=True))
    return Measured(
        accuracy=float(correct.mean()),
        nll=float(nll.mean()),
        ece=metrics.expected_calibration_error(confidence, correct),
    )


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
    ) -> None:
        self.epochs: list[Epoch] = []
        self._module, self._recipe, self._device, self._report = module, recipe, device, report
        self._images = read(train_set, 0, len(train_set.images)).to(device)
        self._labels = train_set.labels.to(device)
        self._classes = train_set.classes
        # Batches of equal size: a last one of a few images would unsettle batch normalisation.
        self._steps = math.ceil(len(self._images) / recipe.batch_size)  # of an epoch
        # Order and augmentation are drawn on the CPU, and so are the same on every device.
        self._generator = torch.Generator().manual_seed(randomness.derive("augmentation", seed))
        self._optimiser = torch.optim.SGD(
            module.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )

    def run(self, held_out: Dataset | None) -> None:
        """The next epoch."""
        began = time.perf_counter()
        loss = self._train()
        trained = time.perf_counter()
        # Before it is measured, and before it is kept.
        if loss > _DIVERGED * math.log(self._classes) or not self._finite():
            raise self._diverged()
        measured = None if held_out is None else evaluate(self._module, held_out, self._device)
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

    def snapshot(self) -> Snapshot:
        tensors = {f"model.{name}": tensor for name, tensor in self._module.state_dict().items()}
        for name, parameter in self._module.named_parameters():
            if parameter in self._optimiser.state:
                tensors[f"momentum.{name}"] = self._optimiser.state[parameter]["momentum_buffer"]
        tensors["random.augmentation"] = self._generator.get_state()
        tensors["random.cpu"] = torch.get_rng_state()
        if self._device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self._device)
        return Snapshot(tensors, list(self.epochs))

    def restore(self, snapshot: Snapshot) -> None:
        self.epochs = list(snapshot.epochs)
        tensors = snapshot.tensors
        self._module.load_state_dict({name: tensors[f"model.{name}"] for name in self._module.state_dict()})
        for name, parameter in self._module.named_parameters():
            if f"momentum.{name}" in tensors:
                # In the parameter's memory format, which the fused optimiser counts on.
                buffer = torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"])
                self._optimiser.state[parameter]["momentum_buffer"] = buffer
        self._generator.set_state(tensors["random.augmentation"])
        torch.set_rng_state(tensors["random.cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self._device)

    def tell(self, seen: int, loss: float | None = None) -> None:
        """Report where the training stands: `seen` images into an epoch, or at the end of one, with its loss."""
        n, last = len(self._images), self.epochs[-1].held_out if self.epochs else None
        epoch = len(self.epochs) + (seen > 0 or loss is None)
        told = f"epoch {min(epoch, self._recipe.epochs)} of {self._recipe.epochs}"
        if loss is not None:
            told += f", loss {loss:.3f}"
        if last is not None:
            told += f"; test accuracy {last.accuracy:.1%}, NLL {last.nll:.3f}, ECE {last.ece:.1%}"
        self._report(len(self.epochs) * n + seen, self._recipe.epochs * n, told)

    def _train(self) -> float:
        """The steps of an epoch; returns their mean loss."""
        recipe = self._recipe
        every = _CUDA_REPORT_EVERY if self._device.type == "cuda" else 1
        low = recipe.arithmetic(self._device) == "bfloat16"
        before = len(self.epochs) * self._steps
        losses: list[Tensor] = []
        told = seen = 0
        self._module.train()
        order = torch.randperm(len(self._images), generator=self._generator).to(self._device)
        for chosen in order.tensor_split(self._steps):
            self._optimiser.param_groups[0]["lr"] = recipe.rate((before + len(losses) + 0.5) / self._steps)
            batch = _floats(_augmented(self._images[chosen], recipe, self._generator))
            with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=low):
                loss = _loss(self._module, batch, self._labels[chosen], recipe.draws)
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if recipe.clip < math.inf:
                nn.utils.clip_grad_norm_(self._module.parameters(), recipe.clip)
            self._optimiser.step()
            losses.append(loss.detach())
            seen += len(chosen)
            if len(losses) % every == 0 and len(losses) < self._steps:
                self.tell(seen, self._mean(losses[told:]))
                told = len(losses)
        return self._mean(losses)

    def _mean(self, losses: list[Tensor]) -> float:
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise self._diverged()
        return mean

    def _finite(self) -> bool:
        return all(bool(tensor.isfinite().all()) for tensor in self._module.state_dict().values())

    def _diverged(self) -> UserError:
        return UserError(
            f"training diverged in epoch {len(self.epochs) + 1}: the loss or the weights stopped being finite, or the "
            f"loss was far above that of guessing (recipe {self._recipe.name}, highest learning rate "
            f"{self._recipe.learning_rate}); give a lower --learning-rate, or another --recipe"
        )


def _loss(module: nn.Module, images: Tensor, labels: Tensor, draws: int) -> Tensor:
    """The mean over images of −log p̄(y | x), p̄ being the mean prediction of so many draws: cross-entropy for one.

    The training-phase ensemble of Park and Kim (2022, appendices D.3 and D.4): what is averaged is the confidence,
    p̄ = (1/S) Σ_s p_s, not the loss, so that the variance of the loss falls with S. Each draw is a pass of its own, by
    itself also in batch normalisation, of the same augmented images.
    """
    if draws == 1:
        return F.cross_entropy(module(images).float(), labels)
    log_probs = torch.stack([module(images).float().log_softmax(dim=1) for _ in range(draws)])
    return metrics.negative_log_likelihood(metrics.log_mean_probability(log_probs), labels).mean()


def _augmented(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Each image (N, 3, H, W) cropped to its own size from a black border at a random place, and perhaps mirrored."""
    n, _, height, width = images.shape
    device, places = images.device, 2 * recipe.padding + 1
    padded = F.pad(images, [recipe.padding] * 4)
    top = torch.randint(places, (n, 1, 1), generator=generator).to(device)
    left = torch.randint(places, (n, 1, 1), generator=generator).to(device)
    rows = top + torch.arange(height, device=device).view(1, -1, 1)
    columns = torch.arange(width, device=device).view(1, 1, -1)
    if recipe.flip:
        mirrored = torch.randint(2, (n, 1, 1), generator=generator).to(device) == 1
        columns = torch.where(mirrored, width - 1 - columns, columns)
    # Indexing puts the channels last, and so in the memory format that convolutions are fastest in.
    numbers = torch.arange(n, device=device).view(-1, 1, 1)
    return padded[numbers, :, rows, left + columns].permute(0, 3, 1, 2)


def _floats(images: Tensor) -> Tensor:
    """uint8 pixels as float32 in [0, 1]."""
    return images.to(torch.float32) / 255


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's generators seeded inside, and afterwards as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _tuned(device: torch.device) -> Iterator[None]:
    """On CUDA cuDNN tries its kernels inside and takes the fastest, since all batches of a training have one size."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before

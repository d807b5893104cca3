"""The training loop: one network, one dataset, one recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import randomness
from stressbench.contracts import Dataset
from stressbench.errors import UserError
from stressbench.training.recipes import Recipe

# Called with the steps done, the steps in all, and the mean loss (nats) of the steps since the last call.
Report = Callable[[int, int, float], None]

_EVALUATION_BATCH = 100
_CUDA_REPORT_EVERY = 20  # steps; reading the loss waits for the device


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to."""

    steps: int
    loss: float  # mean cross-entropy over the last epoch's augmented images, nats
    accuracy: float | None = None  # on the held-out set, fraction in [0, 1]; None without one
    nll: float | None = None  # on the held-out set, nats


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
) -> TrainingResult:
    """Train a network in place, and measure it on a held-out set if there is one; leaves it on `device`, in eval mode.

    The images are kept on the device as they are stored, uint8, and are augmented there. On the CPU the weights
    depend on the initial weights and the seed alone, bit for bit, given one machine and number of threads. On CUDA
    the arithmetic is bfloat16 where autocast deems that safe.

    Raises `UserError` when the loss or the weights stop being finite. Torch's generators are left as they were.
    """
    images = train_set.images.read(0, len(train_set.images)).to(device)
    labels = train_set.labels.to(device)
    # Order and augmentation are drawn on the CPU, and so are the same on every device.
    generator = torch.Generator().manual_seed(randomness.derive("augmentation", seed))
    # Dropout draws from torch's own generator.
    with _seeded(randomness.derive("training", seed), device):
        module.to(device).to(memory_format=torch.channels_last).train()
        steps, loss = _epochs(module, images, labels, recipe, generator, report)
    module.eval()
    if not all(p.isfinite().all() for p in module.state_dict().values()):
        raise _diverged(recipe)
    if held_out is None:
        return TrainingResult(steps, loss)
    accuracy, nll = evaluate(module, held_out, device)
    return TrainingResult(steps, loss, accuracy, nll)


def evaluate(module: nn.Module, dataset: Dataset, device: torch.device) -> tuple[float, float]:
    """Accuracy (fraction) and NLL (nats) of single passes over a dataset.

    Of a stochastic network this is one draw for each image, always the same: less than an ensemble of draws reaches.
    """
    correct, nll = 0, 0.0
    with torch.inference_mode(), _seeded(0, device):
        for start in range(0, len(dataset.images), _EVALUATION_BATCH):
            stop = min(start + _EVALUATION_BATCH, len(dataset.images))
            images = _floats(dataset.images.read(start, stop).to(device))
            labels = dataset.labels[start:stop].to(device)
            keys = randomness.image_keys(randomness.derive("evaluation"), torch.arange(start, stop, device=device))
            with randomness.draw(keys, 0):
                logits = module(images).float()
            correct += int((logits.argmax(1) == labels).sum())
            nll += float(F.cross_entropy(logits, labels, reduction="sum"))
    return correct / len(dataset.images), nll / len(dataset.images)


def _epochs(
    module: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, generator: torch.Generator, report: Report
) -> tuple[int, float]:
    """All steps of a recipe; returns their number and the last epoch's mean loss."""
    device = images.device
    optimiser = torch.optim.SGD(
        module.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )
    per_epoch = math.ceil(len(images) / recipe.batch_size)
    steps = recipe.epochs * per_epoch
    every = _CUDA_REPORT_EVERY if device.type == "cuda" else 1
    done = 0
    for _ in range(recipe.epochs):
        losses: list[Tensor] = []
        told = 0
        # Batches of equal size: a last one of a few images would unsettle batch normalisation.
        for chosen in torch.randperm(len(images), generator=generator).to(device).tensor_split(per_epoch):
            optimiser.param_groups[0]["lr"] = recipe.rate((done + 0.5) / per_epoch)
            batch = _floats(_augmented(images[chosen], recipe, generator))
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                loss = F.cross_entropy(module(batch), labels[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if recipe.clip < math.inf:
                nn.utils.clip_grad_norm_(module.parameters(), recipe.clip)
            optimiser.step()
            losses.append(loss.detach())
            done += 1
            if done % every == 0 or len(losses) == per_epoch:
                report(done, steps, _mean(losses[told:], recipe))
                told = len(losses)
    return steps, _mean(losses, recipe)


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


def _mean(losses: list[Tensor], recipe: Recipe) -> float:
    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise _diverged(recipe)
    return mean


def _diverged(recipe: Recipe) -> UserError:
    return UserError(
        f"training diverged: the loss or the weights stopped being finite (recipe {recipe.name}, highest learning "
        f"rate {recipe.learning_rate}); give a lower --learning-rate, or another --recipe"
    )


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's generators seeded inside, and afterwards as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield

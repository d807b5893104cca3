"""One's own images as a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from stressbench.contracts import Classification, Dataset, InMemory, Task
from stressbench.datasets.encoded import rgb
from stressbench.datasets.identity import claimed, identify
from stressbench.datasets.pixels import CHANNELS, channels_first, to_bytes
from stressbench.errors import UserError, describe, did_you_mean

_IMAGE = ("image", "img", "pixel_values")
_LABEL = ("label", "labels", "fine_label", "target")


def arrays(
    images: Any,
    labels: Any,
    *,
    name: str = "arrays",
    classes: int | None = None,
    task: Task | None = None,
    split: str = "test",
) -> Dataset:
    """Images and labels in memory as a dataset for `stressbench.run`.

    `images` is a NumPy array or a torch tensor, (N, H, W, 3) or (N, 3, H, W): uint8, or floats in [0, 1], which are
    rounded to the 256 levels of uint8. They must not be normalised, because models do that themselves. `labels` (N,)
    are whole numbers from 0. `classes` is the number of the model's outputs, 1 + the highest label unless it is given;
    `name` is what records call the dataset.

    With another `task` in place of `classes`, such as `stressbench.Segmentation(classes=11)`, `labels` are its targets:
    whole numbers (N, H, W), or floats (N, K, H, W) of a regression.

    Raises `UserError` for images of another shape, dtype or range, and for labels that do not fit them.

    >>> import numpy as np, stressbench
    >>> data = stressbench.arrays(np.zeros((4, 8, 8, 3), dtype=np.uint8), [0, 1, 2, 1])
    >>> data.task, data.image_size, len(data.images)
    (Classification(classes=3), (8, 8), 4)
    """
    if classes is not None and task is not None:
        raise UserError("a task has its own number of classes: leave classes= out")
    pixels, _ = channels_first(images, 4)
    pixels = to_bytes(pixels.cpu())
    size = (pixels.shape[2], pixels.shape[3])
    published: str | None = None
    if task is None:
        targets = _labels(labels, len(pixels))
        count = _classes(targets, classes)
        task = Classification(count)
        published = identify(name, InMemory(pixels), targets, count, size) if split == "test" else None
    else:
        targets = _tensor(labels)
        targets = targets.to(torch.float32 if targets.is_floating_point() else torch.int64)
    dataset = Dataset(
        name=name,
        split=split,
        task=task,
        images=InMemory(pixels),
        targets=InMemory(targets),
        image_size=size,
        altered=split == "test" and claimed(name) not in (None, published),
        published=published,
    )
    dataset.require_targets(f"the dataset {name}")
    return dataset


def from_dataset(
    dataset: Any,
    *,
    name: str | None = None,
    classes: int | None = None,
    image: str | None = None,
    label: str | None = None,
    split: str = "test",
) -> Dataset:
    """A torchvision-like dataset, or a `Dataset` of Hugging Face's `datasets`, as one for `stressbench.run`.

    `dataset` is a sequence of pairs (image, label), or of rows with columns. `image` and `label` name the two columns;
    without them, they are the only column of type `Image` and the only one of type `ClassLabel`, or the only ones with
    a usual name, such as "img". An image is a PIL image, or an array as `arrays` takes it. All images are decoded
    once and kept in memory as uint8; `torch.utils.data.Subset`, or `select`, makes a part of them. `classes` is the
    number of the dataset's class names, where it has some; `name` is its class's name.

    Raises `UserError` for a row that is not such a pair, images of different sizes, and what `arrays` refuses.
    """
    columns = getattr(dataset, "column_names", None)
    if columns is not None and not isinstance(columns, list):
        raise UserError(f"this is a dictionary of splits: pass one of them, such as dataset['{next(iter(columns))}']")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise UserError(f"a {type(dataset).__name__} has no length or no items: pass a dataset with both")
    if len(dataset) == 0:
        raise UserError("the dataset is empty: pass at least one image")
    keys: tuple[Any, Any] = (0, 1)
    described = dataset
    while isinstance(described, Subset):  # a part has no class names of its own
        described = described.dataset
    if columns is not None:
        keys = _column(dataset, image, "Image", _IMAGE), _column(dataset, label, "ClassLabel", _LABEL)
        described = dataset.features[keys[1]]
    pixels, labels = _rows(dataset, *keys)
    if classes is None:
        names = getattr(described, "names", None) or getattr(described, "classes", None)
        classes = len(names) if names else None
    return arrays(pixels, labels, name=name or type(dataset).__name__.lower(), classes=classes, split=split)


def _rows(dataset: Any, image: Any, label: Any) -> tuple[Tensor, list[Any]]:
    """All images (N, 3, H, W), uint8, and the labels as they are."""
    pixels, labels = torch.empty(0), []
    for row in range(len(dataset)):
        try:
            item = dataset[row]
            one, target = item[image], item[label]
        except Exception as error:  # the dataset is anybody's
            raise UserError(f"item {row} is not an image with a label ({describe(error)})") from error
        try:
            decoded = _pixels(one)
        except UserError as error:
            raise UserError(f"item {row}: {error}") from error
        if row == 0:
            pixels = decoded.new_empty(len(dataset), *decoded.shape)
        if decoded.shape != pixels.shape[1:]:
            size, first = (f"{height}×{width}" for _, height, width in (decoded.shape, pixels.shape[1:]))
            raise UserError(f"item {row} has {size} pixels and item 0 has {first}: bring all images to one size")
        pixels[row] = decoded
        labels.append(target)
    return pixels, labels


def _tensor(labels: Any) -> Tensor:
    try:
        return labels.detach().cpu() if isinstance(labels, Tensor) else torch.from_numpy(np.asarray(labels))
    except Exception as error:  # what numpy makes of an object may be no array
        raise UserError(f"labels are not numbers ({describe(error)}): pass an array or a tensor of them") from error


def _labels(labels: Any, n: int) -> Tensor:
    found = _tensor(labels)
    if found.shape != (n,):
        raise UserError(f"labels have shape {tuple(found.shape)} for {n} images: pass one whole number for each")
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise UserError(f"labels are {found.dtype}: pass whole numbers, the classes counted from 0")
    if int(found.min()) < 0:
        raise UserError(f"a label is {int(found.min())}: classes count from 0")
    return found.to(torch.int64)


def _classes(labels: Tensor, given: int | None) -> int:
    """The number of classes; without one `given`, labels that may be counted from 1 are refused."""
    low, high = int(labels.min()), int(labels.max())
    cure = f"subtract 1 if the labels count from 1, or pass classes={high + 1}"
    if given is not None and high >= given:
        raise UserError(f"labels range from {low} to {high}, and classes={given} allows 0 to {given - 1}: {cure}")
    if given is None and low == 1:
        raise UserError(f"labels range from 1 to {high}, and classes count from 0: {cure}")
    return high + 1 if given is None else given


def _pixels(image: Any) -> Tensor:
    """One image as (3, H, W), uint8; a grey one has three equal channels."""
    if isinstance(image, Image.Image):
        try:
            return torch.from_numpy(np.array(rgb(image))).movedim(-1, 0)
        except ValueError as error:
            raise UserError(str(error)) from error
    tensor = torch.from_numpy(image) if isinstance(image, np.ndarray) else image
    if isinstance(tensor, Tensor) and tensor.ndim == 3 and tensor.shape[0] == 1:
        tensor = tensor.expand(CHANNELS, -1, -1)
    return to_bytes(channels_first(tensor, 3)[0][0].cpu())


def _column(dataset: Any, wanted: str | None, feature: str, usual: Sequence[str]) -> str:
    """The one column of a kind: as it is `wanted`, else by the type of its feature, else by its name."""
    what = usual[0]
    columns = dataset.column_names
    if wanted is not None and wanted not in columns:
        raise UserError(f"no column '{wanted}': {did_you_mean(wanted, columns)}the columns are {', '.join(columns)}")
    typed = [column for column in columns if type(dataset.features[column]).__name__ == feature]
    found = [wanted] if wanted is not None else typed or [column for column in columns if column in usual]
    if len(found) != 1:
        many = f"{', '.join(found)} could each be the {what}" if found else f"no column is known to be the {what}"
        raise UserError(f"{many}: name it with {what}=, one of {', '.join(columns)}")
    return found[0]

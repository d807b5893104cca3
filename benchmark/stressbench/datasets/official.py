"""The published stressed sets, CIFAR-10-C, CIFAR-100-C and CIFAR-10-P, read from their files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stressbench._util.files import reading
from stressbench.contracts import Condition, Source
from stressbench.datasets.checksums import CHECKSUMS, CIFAR10_P, LABELS
from stressbench.datasets.npy import NpyFile
from stressbench.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEVERITIES = 5

_ADVICE = "complete it, `bench data pull` the set again, or use --stress generated"  # a file that is not whole
_SAMPLE = 64  # sequences that are held against the clean images
_LIKE = 0.75  # how many of them have to be most like their own


class _Files:
    """A folder of .npy files, never unpickled, that may be the published ones.

    `published` maps file names without suffix to their md5; without it, those of a `checksums.json` that carries the
    md5 `archive` of the published tar count.
    """

    def __init__(self, folder: Path, published: Mapping[str, str] | None, archive: str | None) -> None:
        self.folder = folder
        self._published = published
        self._archive = archive
        self._total = 0  # M, the images of the clean split
        self._files: dict[str, NpyFile] = {}

    @property
    def verified(self) -> bool | None:
        """Whether every opened file is byte for byte the published one; None where that cannot be known."""
        published = self._checksums()
        same = []
        for name, file in self._files.items():
            if name not in published:
                return None
            same.append(file.md5 == published[name])
        return all(same) if same else None

    @property
    def digests(self) -> Mapping[str, str]:
        """The md5 of every opened file, by its name without suffix."""
        return {name: file.md5 for name, file in sorted(self._files.items())}

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _open(self, name: str, dtype: np.dtype[Any] | None, shape: tuple[int, ...]) -> NpyFile:
        """One file, of this type (None: any integer) and shape."""
        path = self._path(name)
        if not path.is_file():
            raise UserError(f"{path} is missing: {_ADVICE}")
        rows = NpyFile(path, _ADVICE)
        if rows.dtype != dtype if dtype is not None else rows.dtype.kind not in "iu":
            raise UserError(f"{path} holds {rows.dtype}, not {dtype or 'integers'}: {_ADVICE}")
        if rows.shape != shape:
            raise UserError(f"{path} has shape {rows.shape}, but {shape} goes with the clean images: {_ADVICE}")
        return rows

    def _checksums(self) -> Mapping[str, str]:
        path = self.folder / CHECKSUMS
        if self._published is not None or not path.is_file():
            return self._published or {}
        try:
            with reading(path):
                written = json.loads(path.read_text(encoding="utf-8"))
            files = {str(name): str(value) for name, value in written["files"].items()}
            from_published = written["md5"] == self._archive
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not what `bench data pull` writes ({error!r}): delete it") from error
        return {name.removesuffix(".npy"): value for name, value in files.items()} if from_published else {}


class CorruptionArchive(_Files):
    """`contracts.Archive` of a folder in the layout of CIFAR-10-C.

    `<corruption>.npy` is uint8 (5·M, H, W, 3), severity 1 first, and `labels.npy` (5·M,) the clean labels five times.
    `size` is (H, W); for `published` and `archive` see `_Files`.
    """

    def __init__(
        self,
        folder: Path,
        size: tuple[int, int] = (32, 32),
        published: Mapping[str, str] | None = None,
        archive: str | None = None,
    ) -> None:
        super().__init__(folder, published, archive)
        self._size = size

    def __contains__(self, condition: object) -> bool:
        """Whether there is a file for this condition; there is none for the clean images."""
        if not isinstance(condition, Mapping) or not _is_stressed(condition):
            return False
        return self._path(str(condition["corruption"])).is_file()

    def open(self, conditions: Sequence[Condition], labels: Tensor) -> None:
        """Open the files of these conditions, and check them against the labels (M,) of the full clean split.

        Raises `UserError` that names the first file that is missing, damaged, of another shape or type, or that goes
        with other labels.
        """
        self._total = len(labels)
        names = list(dict.fromkeys(str(c["corruption"]) for c in conditions if _is_stressed(c)))
        if not names:
            return
        shape = (SEVERITIES * self._total, *self._size, 3)
        opened = {name: self._open(name, np.dtype(np.uint8), shape) for name in names}
        opened[LABELS] = self._open(LABELS, None, shape[:1])
        blocks = opened[LABELS].read(0, shape[0]).reshape(SEVERITIES, -1)
        if not (blocks == labels.numpy()).all():
            raise UserError(
                f"{self._path(LABELS)} does not match the labels of the clean images, which may be in another order: "
                "use the clean set that these files were made from, or --stress generated"
            )
        self._files.update(opened)

    def read(self, condition: Condition, start: int, stop: int) -> Tensor:
        """The images start … stop−1 at this corruption and severity: (stop − start, 3, H, W), uint8."""
        first = (int(condition["severity"]) - 1) * self._total
        stop = min(stop, self._total)  # the next row is another severity's
        return _channels_first(self._files[str(condition["corruption"])].read(first + start, first + stop))


class PerturbationArchive(_Files):
    """`contracts.Archive` of a folder in the layout of CIFAR-10-P, whose clean images are `images`.

    `<perturbation>.npy` is uint8 (M, T, H, W, 3). No labels are published with it, so that the sequences are in the
    order of the clean images is seen from the pixels. `size` is (H, W); for `archive` see `_Files`.
    """

    def __init__(
        self, folder: Path, images: Source, size: tuple[int, int] = (32, 32), archive: str | None = None
    ) -> None:
        super().__init__(folder, None, archive)
        self._images = images
        self._size = size

    def __contains__(self, condition: object) -> bool:
        """Whether there is a file for this condition."""
        return isinstance(condition, Mapping) and self._path(str(condition["perturbation"])).is_file()

    def open(self, conditions: Sequence[Condition], labels: Tensor) -> None:
        """Open the files of these conditions, and check that they go with the clean images.

        Raises `UserError` that names the first file that is missing, damaged, of another shape or type, or whose
        sequences are not of the clean images in their order.
        """
        self._total = len(labels)
        names = list(dict.fromkeys(str(c["perturbation"]) for c in conditions))
        places = torch.linspace(0, self._total - 1, min(_SAMPLE, self._total)).long()
        clean = torch.cat([self._images.read(place, place + 1) for place in places.tolist()])
        opened = {}
        for name in names:
            opened[name] = self._open(name, np.dtype(np.uint8), (self._total, CIFAR10_P[name], *self._size, 3))
            sample = np.concatenate([opened[name].read(place, place + 1) for place in places.tolist()])
            alike = _share_alike(sample, clean)
            if alike < _LIKE:
                raise UserError(
                    f"{self._path(name)} does not match the clean images, which may be in another order ({alike:.0%} "
                    f"of {len(places)} sequences are most like their own image): use the clean set that these files "
                    "were made from, or --stress generated"
                )
        self._files.update(opened)

    def read(self, condition: Condition, start: int, stop: int) -> Tensor:
        """The sequences start … stop−1 of this perturbation: (stop − start, T, 3, H, W), uint8."""
        return _channels_first(self._files[str(condition["perturbation"])].read(start, stop))


def _share_alike(sequences: NDArray[Any], clean: Tensor) -> float:
    """How many of the sequences (S, …) are as near to their own clean image as to the nearest, of (S, …).

    A sequence begins with the image itself or passes by it in its middle: the nearer of those two frames counts.
    """
    own = clean.flatten(1).float()
    distances = []
    for frame in (0, (sequences.shape[1] - 1) // 2):
        seen = _channels_first(sequences[:, frame]).flatten(1).float()
        distances.append(torch.cdist(seen, own, compute_mode="donot_use_mm_for_euclid_dist"))
    distance = torch.minimum(*distances)
    return float((distance.diagonal() <= distance.amin(dim=1)).float().mean())


def _channels_first(rows: NDArray[Any]) -> Tensor:
    """A copy of pixels (…, H, W, 3) as (…, 3, H, W), in memory and free to be written to."""
    return torch.from_numpy(np.array(np.moveaxis(rows, -1, -3), order="C"))


def _is_stressed(condition: Condition) -> bool:
    return int(condition["severity"]) > 0

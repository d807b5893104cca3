"""Published sequences as trees of films: ImageNet-P."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stressbench._util.files import reading
from stressbench.contracts import Condition
from stressbench.datasets.trees import ADVICE, files_of
from stressbench.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# How many frames a sequence has.
IMAGENET_P: Mapping[str, int] = {
    "gaussian_noise": 31,
    "shot_noise": 31,
    "motion_blur": 31,
    "zoom_blur": 31,
    "snow": 31,
    "brightness": 31,
    "translate": 41,
    "rotate": 31,
    "tilt": 31,
    "scale": 31,
}


class VideoArchive:
    """`contracts.Archive` of `<root>/<perturbation>/<class>/<image>.mp4`, decoded as it is, without a resize.

    A perturbation may also lie one folder down, in a folder of its group. Frames are converted to RGB as OpenCV does,
    which the published evaluation reads them with.
    """

    def __init__(self, root: Path, names: Sequence[str], size: tuple[int, int]) -> None:
        """`names` are those of the clean images, `<class>/<image>` without suffix, in their order; `size` is (H, W)."""
        self.root, self._names, self._size = root, names, size
        self._paths: dict[str, Sequence[Path]] = {}
        self._digests: dict[str, str] = {}

    @property
    def verified(self) -> bool | None:
        """None: no checksums of single files are published."""
        return None

    @property
    def digests(self) -> Mapping[str, str]:
        """Of each opened perturbation, a digest of its files' names, sizes and times."""
        return self._digests

    def __contains__(self, condition: object) -> bool:
        return isinstance(condition, Mapping) and self._folder(str(condition.get("perturbation"))) is not None

    def open(self, conditions: Sequence[Condition], labels: Tensor) -> None:
        """Find the files of these perturbations, and decode the first of each.

        Raises `UserError` for the first one that is missing, or has other frames than published, and without PyAV.
        Labels need no check: sequences go by their names.
        """
        for name in dict.fromkeys(str(condition["perturbation"]) for condition in conditions):
            if (folder := self._folder(name)) is None:
                raise UserError(f"{self.root} has no folder {name}: {ADVICE}")
            self._paths[name], self._digests[name] = files_of(folder, self._names, "mp4")
            _decoded(self._paths[name][0], IMAGENET_P[name], self._size)

    def read(self, condition: Condition, start: int, stop: int) -> Tensor:
        """The sequences start … stop − 1 of a perturbation: (stop − start, T, 3, H, W), uint8."""
        name = str(condition["perturbation"])
        # FFmpeg decodes without the interpreter's lock. Results are taken in order: the first fault is the one raised.
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
            found = pool.map(lambda path: _decoded(path, IMAGENET_P[name], self._size), self._paths[name][start:stop])
            return torch.from_numpy(np.stack(list(found))).permute(0, 1, 4, 2, 3).contiguous()

    def _folder(self, perturbation: str) -> Path | None:
        if perturbation not in IMAGENET_P:
            return None
        places = (self.root / perturbation, *self.root.glob(f"*/{perturbation}"))
        return next((place for place in places if place.is_dir()), None)


def _decoded(path: Path, length: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The frames of a film, (length, H, W, 3); another size is refused before, another length while it is decoded."""
    try:
        import av
    except ImportError as error:
        raise UserError("sequences in MP4 files need PyAV: pip install 'stressbench[video]'") from error
    frames: list[NDArray[np.uint8]] = []
    try:
        with reading(path):
            content = path.read_bytes()
        # From memory, and as MP4 alone: a file that names others, or addresses, gets none of them.
        opened: Any = av.open(io.BytesIO(content), format="mp4")
        with opened as film:
            if not film.streams.video:
                raise UserError(f"{path} holds no film: {ADVICE}")
            stream = film.streams.video[0]
            found = (stream.height, stream.width)
            for frame in film.decode(stream) if found == size else ():
                if len(frames) == length or (frame.height, frame.width) != size:
                    raise UserError(f"{path} has other frames than the {length} that are published: {ADVICE}")
                frames.append(frame.reformat(format="rgb24", interpolation="BICUBIC").to_ndarray())
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path} cannot be decoded: {error}. {ADVICE.capitalize()}") from error
    if found != size:
        (height, width), (rows, columns) = found, size
        raise UserError(
            f"{path} is {width}×{height}, and the clean images are {columns}×{rows}: they must have the size of the "
            f"published ones, which are not resized again; use size={height}"
        )
    if len(frames) != length:
        raise UserError(f"{path} has {len(frames)} frames, and {length} are published: {ADVICE}")
    return np.stack(frames)

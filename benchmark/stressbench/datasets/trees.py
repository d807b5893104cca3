"""Published stressed images as trees of files: ImageNet-C, ImageNet-C-bar and ImageNet-3DCC."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from stressbench._util.files import refused
from stressbench.contracts import Condition
from stressbench.datasets.encoded import EncodedImages
from stressbench.errors import UserError

ADVICE = "complete it, or use --stress generated"
_PARAMETER = re.compile(r"\d+\.\d\d")
_SEVERITIES = 5


class TreeArchive:
    """`contracts.Archive` of `<root>/<corruption>/<severity>/<class>/<image>`, read as it is, without a resize.

    A corruption may also lie one folder down, in the folder of the group that its archive is named after. The program
    that makes ImageNet-C-bar names the five severities by parameters with two decimals (`0.80`): in ascending order
    they are 1 to 5.
    """

    def __init__(self, root: Path, names: Sequence[str], size: tuple[int, int]) -> None:
        """`names` are those of the clean images, `<class>/<image>` without suffix, in their order; `size` is (H, W)."""
        self.root, self._names, self._size = root, names, size
        self._images: dict[str, EncodedImages] = {}
        self._digests: dict[str, str] = {}

    @property
    def verified(self) -> bool | None:
        """None: no checksums of single files are published."""
        return None

    @property
    def digests(self) -> Mapping[str, str]:
        """Of each opened condition, a digest of its files' names, sizes and times, which archives and copies keep."""
        return self._digests

    def __contains__(self, condition: object) -> bool:
        return isinstance(condition, Mapping) and self._folder(condition) is not None

    def open(self, conditions: Sequence[Condition], labels: Tensor) -> None:
        """Find the files of these conditions; raises `UserError` for the first one that is missing, or of another size.

        Labels need no check: images go by their names.
        """
        found = {_key(condition): folder for condition in conditions if (folder := self._folder(condition))}
        stressed = [condition for condition in conditions if int(condition.get("severity", 0)) > 0]
        for condition in stressed:
            if _key(condition) not in found:
                raise UserError(f"{self.root} has no folder {_key(condition)}: {ADVICE}")
        for key, folder in found.items():
            paths, digest = files_of(folder, self._names, "JPEG")
            images = EncodedImages.of_files(paths)
            if images.size != self._size:
                (height, width), (rows, columns) = images.size, self._size
                raise UserError(
                    f"{paths[0]} is {width}×{height}, and the clean images are {columns}×{rows}: they must have the "
                    f"size of the published ones, which are not resized again; use size={height}"
                )
            self._images[key], self._digests[key] = images, digest

    def read(self, condition: Condition, start: int, stop: int) -> Tensor:
        """Images start … stop − 1 of a condition: (stop − start, 3, H, W), uint8."""
        return self._images[_key(condition)].read(start, stop)

    def _folder(self, condition: Condition) -> Path | None:
        if int(condition.get("severity", 0)) < 1:
            return None
        corruption, severity = str(condition.get("corruption")), int(condition["severity"])
        places = (self.root / corruption, *self.root.glob(f"*/{corruption}"))
        return next((found for place in places if (found := _of_severity(place, severity))), None)


def _of_severity(place: Path, severity: int) -> Path | None:
    if (named := place / str(severity)).is_dir():
        return named
    parameters = [path for path in place.glob("*.??") if _PARAMETER.fullmatch(path.name) and path.is_dir()]
    if len(parameters) != _SEVERITIES or severity > _SEVERITIES:
        return None
    return sorted(parameters, key=lambda path: float(path.name))[severity - 1]


def _key(condition: Condition) -> str:
    return f"{condition.get('corruption')}/{condition.get('severity')}"


def files_of(folder: Path, names: Sequence[str], suffix: str) -> tuple[list[Path], str]:
    """The path of each image, whatever its suffix, and a digest of names, sizes and times of the last change.

    Raises `UserError` for a missing file, called by its usual `suffix`.
    """
    there: dict[str, tuple[str, str]] = {}
    for of_class in sorted({name.partition("/")[0] for name in names}):
        try:
            with os.scandir(folder / of_class) as entries:
                for entry in entries:
                    status = entry.stat()
                    state = f"{status.st_size} {status.st_mtime_ns}"
                    there[f"{of_class}/{Path(entry.name).stem}"] = (entry.name, state)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise UserError(f"{folder / of_class} is missing: {ADVICE}") from error
            raise refused(folder / of_class, error) from error
    running, paths = hashlib.sha256(), []
    for name in names:
        if name not in there:
            raise UserError(f"{folder / name}.{suffix} is missing: {ADVICE}")
        file, state = there[name]
        running.update(f"{name} {state}\n".encode())
        paths.append(folder / name.partition("/")[0] / file)
    return paths, running.hexdigest()

"""Reads checkpoint files without unpickling untrusted objects, and recognises files that are something else."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from stressbench._util.files import reading, refused
from stressbench.errors import UserError

_LFS = b"version https://git-lfs.github.com/spec/"
_SAVE = "save the model's state_dict() with torch.save or safetensors"
_CONVERT = "if you trust its author, load it yourself and save its state dict with safetensors.torch.save_file"
_CONVERT_ARRAYS = (
    "load its arrays in the library that wrote them, give them the network's names and shapes, and save them with "
    "safetensors.torch.save_file"
)
_KINDS = (  # first bytes → what such a file is, and the cure
    (b"\x93NUMPY", "a NumPy array", _CONVERT_ARRAYS),
    (b"\x89HDF\r\n", "an HDF5 file, as Keras writes", _CONVERT_ARRAYS),
    (b"GGUF", "a GGUF file", _CONVERT_ARRAYS),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it first"),
    (b"(\xb5/\xfd", "compressed with Zstandard", "unpack it first"),
    (b"PAR1", "a Parquet file", "give the weights of a model, not a dataset"),
)
_MEMBERS = (  # a name in a zip file → what such a file is, and the cure
    (r"(^|/)(constants\.pkl|code/.*)$", "a TorchScript archive", f"torch.jit.load it and {_SAVE}"),
    (
        r"(^|/)(serialized_exported_program\.json|archive_format|models/[^/]+\.json)$",
        "an archive of torch.export",
        f"torch.export.load it and {_SAVE}",
    ),
    (r"\.npy$", "a NumPy archive (.npz)", _CONVERT_ARRAYS),
    (r"(^|/)model\.weights\.h5$", "a Keras archive", _CONVERT_ARRAYS),
    (r"(^|/)MAR-INF/", "a TorchServe archive", "unpack it, and give the weights file inside"),
)


def read(path: Path) -> Any:
    """The content of a safetensors file or a `torch.save` file; the first bytes decide the format, not the name.

    Raises `UserError` for any other file, naming its format and what to do.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: pass the weights file itself")
    if not path.is_file():
        raise UserError(f"no weights file at {path}: check the path")
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise refused(path, error) from error
    if start.startswith(_LFS):
        raise UserError(lfs_pointer(path))
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if start[:4] == b"PK\x03\x04":
        return _read_zip(path)
    if start[:1] == b"\x80":
        return _read_torch(path)
    what, cure = _kind(path, start)
    raise UserError(f"{path} is not a weights file, but {what}: {cure}")


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer, which Git leaves in place of a large file if Git LFS is not installed."""
    try:
        with path.open("rb") as file:
            return file.read(len(_LFS)) == _LFS
    except OSError:
        return False


def lfs_pointer(path: Path) -> str:
    """The error for a Git LFS pointer."""
    return (
        f"{path} is a Git LFS pointer, not the file itself: install Git LFS and run `git lfs install && git lfs pull` "
        f"in {path.parent}"
    )


def _kind(path: Path, start: bytes) -> tuple[str, str]:
    for magic, what, cure in _KINDS:
        if start.startswith(magic):
            return what, cure
    if not start:
        return "empty", "copy or download it again"
    if start.lstrip()[:1] == b"<":
        return "a web page", "link to the file itself (on the Hugging Face hub, /resolve/ in place of /blob/)"
    if start.lstrip()[:1] == b"{":
        return _json_kind(path)
    if path.suffix == ".onnx" or (start[0] == 0x08 and start[2:3] == b"\x12"):
        return "an ONNX model", f"go back to the PyTorch model that it was exported from, and {_SAVE}"
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model", _CONVERT_ARRAYS
    if path.suffix == ".msgpack":
        return "a Flax checkpoint", _CONVERT_ARRAYS
    return "neither safetensors nor of torch.save", "give a .safetensors file, or one of torch.save"


def _json_kind(path: Path) -> tuple[str, str]:
    if b'"weight_map"' in path.read_bytes():
        return (
            "the index of weights that are split over several files",
            "merge the files that it lists, each read by safetensors.torch.load_file, into one with save_file",
        )
    return "JSON text, such as a model's configuration", "give the weights file that belongs to it"


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with reading(path):
            return load_file(path)
    except SafetensorError as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}): it is cut short or damaged, copy or download it again"
        ) from error


def _read_zip(path: Path) -> Any:
    try:
        with reading(path), zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{path} is not a whole file of torch.save ({error}): it is cut short or damaged, copy or download it again"
        ) from error
    if not any(re.search(r"(^|/)data\.pkl$", name) for name in names) or any(
        re.search(_MEMBERS[0][0], name) for name in names
    ):
        for pattern, what, cure in _MEMBERS:
            if any(re.search(pattern, name) for name in names):
                raise UserError(f"{path} is not a weights file, but {what}: {cure}")
        raise UserError(f"{path} is not a weights file, but a zip file: unpack it, and give the weights file inside")
    return _read_torch(path)


def _read_torch(path: Path) -> Any:
    import torch

    try:
        with reading(path), torch.serialization.safe_globals(_harmless()):
            return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"a Python object of {named[1]}" if named else "more than tensors"
        raise UserError(
            f"{path} is damaged or holds {what}, and to read that would be to unpickle it, that is to run "
            f"code of whoever wrote it, so it is refused: {_CONVERT}"
        ) from error
    except UserError:
        raise
    except Exception as error:  # a damaged file can trip the reader anywhere
        raise UserError(
            f"{path} is not a whole file of torch.save ({type(error).__name__}): it is cut short or damaged, or was "
            f"written by something else; copy or download it again, or {_SAVE}"
        ) from error


def _harmless() -> list[Any]:
    """Types that training scripts store beside weights and whose construction runs no untrusted code."""
    import numpy as np

    paths: list[Any] = [
        (pure, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for pure, name in ((PurePosixPath, "PosixPath"), (PureWindowsPath, "WindowsPath"))
    ]
    scalar: Any = np._core.multiarray.scalar  # type: ignore[attr-defined]
    return [
        argparse.Namespace,
        np.dtype,
        *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
        (scalar, "numpy._core.multiarray.scalar"),
        (scalar, "numpy.core.multiarray.scalar"),
        *paths,
    ]


def state_dicts(content: object, within: str = "") -> dict[str, dict[str, Any]]:
    """Every set of named tensors in a file's content, up to two keys deep, by its key; "" is the whole content."""
    import torch

    if not isinstance(content, Mapping) or not content:
        return {}
    if all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()):
        return {within: dict(content)}
    if within.count(".") > 0:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for name, value in content.items():
        found |= state_dicts(value, f"{within}.{name}" if within else str(name))
    return found


def bare_averages(content: object) -> list[str]:
    """Keys of averaged weights that are stored as a list of tensors without names, such as `ema.shadow_params`."""
    import torch

    def holds(value: object) -> bool:
        return isinstance(value, (list, tuple)) and any(isinstance(one, torch.Tensor) for one in value)

    averaged = re.compile(r"ema|averag|swa|shadow", re.IGNORECASE)
    found = []
    for name, value in content.items() if isinstance(content, Mapping) else ():
        inner = value.items() if isinstance(value, Mapping) else ()
        if averaged.search(str(name)) and (holds(value) or any(holds(one) for _, one in inner)):
            found.append(str(name))
    return found

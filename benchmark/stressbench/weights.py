"""A model's weights: where they are, how they are read and written, and their checksum.

Weights are written as safetensors. They are read from safetensors, or from a file of `torch.save` as far as torch's
restricted reader goes: nothing that a stranger wrote is ever unpickled.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stressbench.errors import UserError
from stressbench.home import home
from stressbench.spec import parse, slug
from stressbench.store import replace

if TYPE_CHECKING:
    from torch import Tensor, nn

# Keys under which training scripts put the state dict, beside an optimiser's state or an epoch number.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_CONVERT = "if you trust its author, load it yourself and save its state dict with safetensors.torch.save_file"
_NAMED = 3  # how many offending tensors an error names


def stored(dataset_name: str, model_spec: str, seed: int) -> Path:
    """Where training puts the weights of a model for a dataset and a seed; the file need not exist.

    Different names, and specs that differ in more than the order of their options, get different files.
    """
    return home() / "weights" / slug(dataset_name) / slug(str(parse(model_spec))) / f"seed{seed}.safetensors"


def load(module: nn.Module, path: Path) -> None:
    """Put the weights in a file into a module, in place, all of them or none.

    The state dict may lie under one of the usual keys ("state_dict", "model_state_dict", "model") and its names may
    share the prefix "module." that data-parallel training leaves.

    Raises `UserError` when the file is missing, holds no weights, would have to be unpickled, or when its tensors are
    not the module's in name and shape, or not finite.
    """
    given = _strip(_unwrap(_read(path), path))
    _check_fit(module.state_dict(), given, path)
    for name, tensor in given.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(
                f"{path} holds weights that are not finite, in '{name}' first: they come from a training "
                "that diverged or a damaged copy; use other weights"
            )
    module.load_state_dict(given, strict=False)


def save(module: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a module's state dict and words about it as safetensors, in one step, making folders as needed.

    Raises `UserError` when the file system refuses.
    """
    save_tensors(module.state_dict(), path, metadata)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """The same for any named tensors."""
    from safetensors.torch import save as serialise

    # Cloned, because safetensors refuses tensors that share memory, as tied weights do.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = serialise(copies, dict(metadata))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, content)
    except OSError as error:
        raise UserError(
            f"cannot write the weights to {path}: {error.strerror or error}. Free some space there, or point "
            "STRESSBENCH_HOME at another folder"
        ) from error


def metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself; raises `UserError` for one that is not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a whole safetensors file ({error}); remove it") from error


def checksum(module: nn.Module) -> str:
    """ "sha256:" and the hex digest of a module's weights: the state dict's names in order, dtypes, shapes and bytes.

    The same weights have the same checksum on any device, in any memory format, and from any kind of file.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f"sha256:{digest.hexdigest()}"


# --- reading --------------------------------------------------------------------------------------------------


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the weights file itself")
    if not path.is_file():
        raise UserError(f"there is no weights file {path}: check the path")


def _read(path: Path) -> Any:
    """What a file holds, told by its first bytes, since a name promises nothing."""
    _require_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; check its permissions") from error
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        return _read_torch(path)
    what = "a web page (the download went wrong)" if start.lstrip()[:1] == b"<" else "neither safetensors nor torch's"
    raise UserError(f"{path} is not a weights file, but {what}: give a .safetensors file, or one of torch.save")


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole safetensors file ({error}); get it again") from error


def _read_torch(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged or holds more than tensors, and to read more would be to unpickle it, that is to run "
            f"code of whoever wrote it, so it is refused: {_CONVERT}"
        ) from error
    except Exception as error:  # a damaged file can trip the reader anywhere
        raise UserError(f"{path} is not a whole file of torch.save ({type(error).__name__}): get it again") from error


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    import torch

    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path} holds no state dict, but {type(content).__name__}: save the model's state_dict()")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise UserError(
                f"{path} holds no state dict: '{name}' is {type(value).__name__}, not a tensor; "
                "save the model's state_dict()"
            )
    return dict(content)


def _strip(given: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "module."
    if all(name.startswith(prefix) for name in given):
        return {name.removeprefix(prefix): tensor for name, tensor in given.items()}
    return given


def _check_fit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], path: Path) -> None:
    # torch before 0.4.1 did not count batches, and nothing computed from these weights depends on the count.
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in wanted]
    shapes = [
        f"{name} {tuple(given[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    faults = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    if any(names for _, names in faults):
        told = "; ".join(
            f"{len(names)} {what} ({', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''})"
            for what, names in faults
            if names
        )
        raise UserError(
            f"the weights in {path} are of another architecture or number of classes: of {len(wanted)} "
            f"tensors, {told}; name the model and the dataset that they were trained for"
        )

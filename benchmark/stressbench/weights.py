"""A model's weights: their place in the store, reading, writing and checksums.

Weights are written as safetensors. They are read from safetensors, or from `torch.save` files with torch's restricted
reader: untrusted objects are never unpickled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stressbench._util.checkpoints import bare_averages, read, state_dicts
from stressbench._util.files import reading, replace
from stressbench._util.home import home
from stressbench.errors import UserError, did_you_mean
from stressbench.spec import parse, slug

if TYPE_CHECKING:
    from torch import Tensor, nn

# What nn.DataParallel, DistributedDataParallel, torch.compile and FSDP put into a tensor's name.
_TORCH_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# torch before 0.4.1 did not count batches, and nothing computed from these weights depends on the count.
_COUNTER = "num_batches_tracked"
_SHARD = re.compile(r"-\d+-of-\d+\.")
_NOTHING: Any = None
_HALF = 2  # bytes of the smallest floats that hold weights without a scale
_NAMED = 3  # how many offending tensors an error names


def stored(dataset_name: str, model_spec: str, seed: int) -> Path:
    """The path of the weights of a model for a dataset and a seed in the store; the file need not exist.

    Different names, and specs that differ in more than the order of their options, get different files.
    """
    return home() / "weights" / slug(dataset_name) / slug(str(parse(model_spec))) / f"seed{seed}.safetensors"


def load(module: nn.Module, path: Path) -> None:
    """Load the weights of a file into a module, in place, all of them or none.

    `path` may end in `#key`, which names the set of tensors under that key of a checkpoint, or the tensors whose names
    begin with it. Without, the only set that belongs to the network is taken, under whatever key it lies. Where the
    names differ from the network's by one prefix throughout, or by what torch's own wrappers add (`module`,
    `_orig_mod`, …), they are read without; a tensor with several names in the network may have one in the file.

    Raises `UserError` when the file is missing, holds no weights, would have to be unpickled, or holds several sets of
    which none is chosen; when its tensors are not the module's in name and shape, not finite, or quantised.
    """
    file, key = _split(path)
    wanted = module.state_dict()
    given = _tied(module, _renamed(wanted, _choose(read(file), key, wanted, file)), file)
    for name, tensor in given.items():
        if fault := _unreadable(tensor, wanted.get(name)):
            raise UserError(f"{file} holds '{name}' {fault}: save the state dict of the plain float network")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(
                f"{file} holds weights that are not finite, in '{name}' first: they come from a training "
                "that diverged or a damaged copy; use other weights"
            )
    before = {name: tensor.clone() for name, tensor in wanted.items()}
    # torch, not a comparison of names, says what fits: modules read older versions' names, such as weight_norm's.
    try:
        unmatched = module.load_state_dict(given, strict=False)
        missing = [name for name in unmatched.missing_keys if not name.endswith(_COUNTER)]
        fault = _misfit(wanted, given, missing, unmatched.unexpected_keys, file)
    except RuntimeError as error:
        missing = [name for name in wanted if name not in given and not name.endswith(_COUNTER)]
        unexpected = [name for name in given if name not in wanted]
        fault = _misfit(wanted, given, missing, unexpected, file) or f"{file} does not fit the network: {error}"
    if fault is not None:
        module.load_state_dict(before, strict=False)
        raise UserError(" ".join(fault.split()))


def _unreadable(tensor: Tensor, wanted: Tensor | None) -> str | None:
    """How a tensor is stored, if its numbers alone are not those of the network's tensor."""
    import torch

    if tensor.is_meta:
        return "without its numbers (on the meta device)"
    if tensor.is_quantized or (tensor.is_floating_point() and tensor.element_size() < _HALF):
        return f"quantised ({_name(tensor.dtype)})"  # the scales lie elsewhere
    if tensor.is_nested or tensor.layout != torch.strided:
        return "in a sparse or nested layout"
    if wanted is not None and wanted.is_floating_point() and not tensor.is_floating_point():
        return f"as {_name(tensor.dtype)}, where the network has {_name(wanted.dtype)}"
    return None


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def save(module: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a module's state dict and metadata as safetensors, atomically, creating folders as needed.

    Raises `UserError` if the file cannot be written.
    """
    save_tensors(module.state_dict(), path, metadata)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write named tensors as `save` does."""
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
    """The metadata of a safetensors file; raises `UserError` for an incomplete one."""
    from safetensors import SafetensorError, safe_open

    try:
        with reading(path), safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a whole safetensors file ({error}); remove it") from error


def checksum(module: nn.Module) -> str:
    """The `digest` of a module's state dict."""
    return digest(module.state_dict())


def digest(tensors: Mapping[str, Tensor]) -> str:
    """ "sha256:" and the hex digest of named tensors: their names in order, dtypes, shapes and bytes.

    The same weights have the same digest on any device, in any memory format, and from any kind of file.
    """
    import torch

    running = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        running.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{running.hexdigest()}"


# --- reading --------------------------------------------------------------------------------------------------


def _split(path: Path) -> tuple[Path, str | None]:
    """The file and the key of `file.pt#key`; an existing file with `#` in its name has precedence."""
    name, mark, key = path.name.partition("#")
    if not mark or path.exists():
        return path, None
    return path.with_name(name), key


def _choose(content: object, key: str | None, wanted: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The set of tensors in a file that belongs to this network, or that `key` names."""
    sets = state_dicts(content)
    if key is not None:
        return _keyed(sets, key, path)
    if not sets:
        raise UserError(f"{path} holds no state dict, but {_described(content)}: save the model's state_dict()")
    names = {_unwrapped(name) for name in wanted}
    related = [one for one in sets if names & {_unwrapped(name) for name in sets[one]} or _prefixes(wanted, sets[one])]
    several = [*related, *(bare_averages(content) if related else ())]
    if len(several) > 1 or (not related and len(sets) > 1):
        listed = several or list(sets)
        raise UserError(
            f"{path} holds {len(listed)} sets of weights, under {', '.join(listed)}: choose one, for example "
            f"{path}#{listed[-1] if listed[-1] in sets else listed[0]}"
        )
    (only,) = related or sets
    return _keyed(sets, only, path)


def _keyed(sets: Mapping[str, dict[str, Tensor]], key: str, path: Path) -> dict[str, Tensor]:
    """The set under a key, or the tensors of any one set whose names begin with the key and a dot."""
    if key in sets:
        return sets[key]
    start = f"{key}."
    parts = [
        {name.removeprefix(start): t for name, t in one.items() if name.startswith(start)} for one in sets.values()
    ]
    parts = [part for part in parts if part]
    if len(parts) != 1:
        raise UserError(
            f"{path} holds {'several sets' if parts else 'no weights'} under '{key}': "
            f"{did_you_mean(key, sets)}it has {', '.join(name or 'one set without a key' for name in sets) or 'none'}"
        )
    return parts[0]


def _described(content: object) -> str:
    if isinstance(content, Mapping) and content:
        return f"a dictionary of {', '.join(f'{k} ({type(v).__name__})' for k, v in list(content.items())[:_NAMED])}"
    return type(content).__name__


# --- names ----------------------------------------------------------------------------------------------------


def _unwrapped(name: str) -> str:
    """A tensor's name without what torch's own wrappers add to it, at the front or between."""
    return ".".join(part for part in name.split(".") if part not in _TORCH_WRAPPERS)


def _prefixes(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Prefixes under which the given tensors contain all that the network needs."""
    needed = [name for name in wanted if not name.endswith(_COUNTER)]
    if not needed:
        return []
    last = needed[0]
    starts = [name.removesuffix(last) for name in given if name.endswith(f".{last}")]
    return [start for start in starts if all(start + name in given for name in needed)]


def _renamed(wanted: Mapping[str, Tensor], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The given tensors under the network's names, where one reading of the whole file gives just these; else as is."""
    if wanted.keys() <= given.keys():
        return given
    plain = {_unwrapped(name): name for name in wanted}
    # The counter that torch.optim.swa_utils.AveragedModel adds beside its `module`.
    given = {n: t for n, t in given.items() if n != "n_averaged" or n in wanted or not _all_under("module.", given)}
    here = {_unwrapped(name): tensor for name, tensor in given.items()}
    if len(plain) < len(wanted) or len(here) < len(given):
        return given
    if here.keys() <= plain.keys() and _covers(here, plain):
        return {plain[name]: tensor for name, tensor in here.items()}
    for start in _prefixes(dict.fromkeys(plain, _NOTHING), here):
        stripped = {name.removeprefix(start): tensor for name, tensor in here.items()}
        if stripped.keys() <= plain.keys():
            return {plain[name]: tensor for name, tensor in stripped.items()}
    return given


def _all_under(prefix: str, given: Mapping[str, Tensor]) -> bool:
    return all(name.startswith(prefix) for name in given if name != "n_averaged")


def _covers(here: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    return all(name in here or name.endswith(_COUNTER) for name in wanted)


def _tied(module: nn.Module, given: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The given tensors, and for each that a file has under another name of the same tensor, that one."""
    import torch

    names: dict[int, list[str]] = {}
    for name, tensor in [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]:
        names.setdefault(id(tensor), []).append(name)
    filled = dict(given)
    for same in names.values():
        there = [name for name in same if name in given]
        for name in there[1:]:
            if not torch.equal(given[name], given[there[0]]):
                raise UserError(
                    f"the network uses one tensor as {there[0]} and {name}, but {path} holds two different ones: "
                    "build the network that these weights are of"
                )
        filled |= {name: given[there[0]] for name in same if there}
    return filled


# --- what does not fit ----------------------------------------------------------------------------------------


def _misfit(
    wanted: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    missing: Sequence[str],
    unexpected: Sequence[str],
    path: Path,
) -> str | None:
    """The mismatch and how to fix it; None if all tensors fit."""
    shapes = [
        f"{name} {tuple(given[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    faults = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    if not any(names for _, names in faults):
        return None
    differences = "; ".join(
        f"{len(names)} {what} ({', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''})"
        for what, names in faults
        if names
    )
    cure = _cure(wanted, given, missing, unexpected, bool(shapes), path)
    return f"the weights in {path} do not fit the network: of {len(wanted)} tensors, {differences}; {cure}"


def _cure(
    wanted: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    missing: Sequence[str],
    unexpected: Sequence[str],
    shapes: bool,
    path: Path,
) -> str:
    if missing and (starts := _prefixes(wanted, given)):
        chosen = " or ".join(f"{path}#{start.removesuffix('.')}" for start in starts)
        return (
            f"the network's are there under the prefix {' and '.join(starts)} beside others: choose them with {chosen}"
        )
    if missing and _SHARD.search(path.name):
        return "this is one of several files that the weights are split over: merge them into one"
    if missing and not unexpected and not shapes:
        return "the file holds a part of the network: save the whole model's state_dict()"
    if unexpected and not missing and not shapes:
        return (
            "the file has all that the network needs: remove the others from its state dict, "
            "or build the network that they belong to"
        )
    if shapes and not missing and not unexpected:
        return (
            "they are of another number of classes or another width: name the model and dataset they were trained for"
        )
    return "they are of another architecture: name the model that they were trained for"

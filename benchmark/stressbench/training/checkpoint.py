"""Checkpoints of unfinished trainings, from which only the same training can resume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import nn

from stressbench import weights
from stressbench.errors import UserError
from stressbench.training.loop import Epoch, Snapshot

_IDENTITY, _EPOCHS = "identity", "epochs"


def save(path: Path, snapshot: Snapshot, identity: Mapping[str, str]) -> None:
    """Write a snapshot with the training's identity atomically."""
    metadata = {
        _IDENTITY: json.dumps(dict(identity)),
        _EPOCHS: json.dumps([asdict(epoch) for epoch in snapshot.epochs]),
    }
    weights.save_tensors(snapshot.tensors, path, metadata)


def identity(path: Path) -> dict[str, str]:
    """The training that a checkpoint belongs to; raises `UserError` for an incomplete file."""
    try:
        return {str(key): str(value) for key, value in json.loads(weights.metadata(path)[_IDENTITY]).items()}
    except (KeyError, ValueError, AttributeError) as error:
        raise _unusable(path) from error


def load(path: Path, module: nn.Module) -> Snapshot:
    """Read a snapshot for this module; raises `UserError` for an incomplete or unsuitable file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        rows = json.loads(weights.metadata(path)[_EPOCHS])
        epochs = [Epoch(**row) for row in rows]
        tensors = load_file(path)
        fits = all(tensors[f"model.{name}"].shape == tensor.shape for name, tensor in module.state_dict().items())
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _unusable(path) from error
    if not fits:
        raise _unusable(path)
    return Snapshot(tensors, epochs)


def _unusable(path: Path) -> UserError:
    return UserError(f"{path} is not a whole checkpoint of this version: remove it, or train with --fresh")

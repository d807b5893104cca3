"""Devices: which one a run is on, what it is called, and how modules are laid out on it."""

from __future__ import annotations

import torch
from torch import nn

from stressbench.errors import UserError, describe
from stressbench.execution.environment import cpu_name


def pick_device(name: str | None) -> torch.device:
    """The device that a person named, else a GPU where there is one; raises `UserError` for one that is not there."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = "cpu and cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch has both for a device that is not there
        raise UserError(f"device '{name}' cannot be used ({describe(error)}): here is {found}") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device '{name}' is not one that stressbench computes on: here is {found}")
    return device


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def forbid_tf32() -> None:
    """What says float32 must mean it: by default cuDNN rounds a convolution's inputs to TF32."""
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]


def prepared(module: nn.Module) -> nn.Module:
    """The module as runs predict with it and attack it: in eval mode, in true float32."""
    forbid_tf32()
    return module.eval()

"""Models that anybody keeps on the Hugging Face hub: safetensors with a timm configuration.

A stranger wrote both files. The configuration may choose an architecture, plain values for its parameters, and the
preprocessing, and nothing that names a file, an address or a way to load.
"""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from stressbench import weights
from stressbench.contracts import Dataset
from stressbench.errors import UserError
from stressbench_plugins.downloads import WEIGHTS, fetch
from stressbench_plugins.preprocessing import check_classes, optional, prepared
from stressbench_plugins.timm_models import check_architecture, steps

_LARGEST = 2**20  # bytes; with the names of 21,000 classes it is half of that
_DEEPEST = 3  # lists in lists

Side = Annotated[int, Field(ge=1, le=4096)]
Level = Annotated[float, Field(allow_inf_nan=False)]
Spread = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Preprocessing(BaseModel):
    """What timm's configurations say of it, as far as it is the same for tensors as for Pillow's images."""

    input_size: tuple[Literal[3], Side, Side]
    fixed_input_size: bool = False
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    crop_pct: Annotated[float, Field(gt=0, le=1)] = 0.875
    crop_mode: Literal["center", "squash"] = "center"
    mean: tuple[Level, Level, Level]
    std: tuple[Spread, Spread, Spread]


class _Configuration(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    architecture: str
    num_classes: Annotated[int, Field(ge=1)]
    model_args: dict[str, Any] = {}
    pretrained_cfg: _Preprocessing


def hub(dataset: Dataset, argument: str, revision: str | None = None) -> nn.Module:
    """The model in a repository OWNER/REPO of the hub, at a branch, tag or commit, by default the main branch.

    Raises `UserError` for a repository without a timm configuration or without safetensors, a configuration that asks
    for more than a network and its preprocessing, weights that do not fit it, and another number of classes.
    """
    library = optional("timm", f"hub:{argument}", "hub")
    path = fetch(argument, "config.json", revision)
    commit = path.parent.name
    found = _read(path, argument)
    check_architecture(library, found.architecture)
    arguments = _plain(library, found.model_args, argument)
    check_classes(
        f"hub:{argument}", found.num_classes, dataset, "choose a model for this dataset, or the dataset of this model"
    )
    file = fetch(argument, WEIGHTS, commit)
    module = library.create_model(
        found.architecture,
        pretrained=False,
        **{
            **arguments,
            "pretrained_cfg": found.pretrained_cfg.model_dump(),
            "num_classes": found.num_classes,
            "in_chans": 3,
        },
    )
    weights.load(module, file)
    source = f"timm {library.__version__}, {argument} at {commit}"
    return prepared(module, steps(library, module), source, untrained=False)


def _read(path: Path, repository: str) -> _Configuration:
    where = f"config.json of {repository}"
    if path.stat().st_size > _LARGEST:
        raise UserError(f"{where} has {path.stat().st_size / 2**20:.0f} MB: no configuration of a model is that large")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({type(error).__name__}): choose another repository") from error
    try:
        return _Configuration.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "the whole"
        raise UserError(
            f"{where} is not a timm configuration that can be used: {name}: {first['msg']}; choose a repository of a "
            "timm image classifier"
        ) from error


def _plain(library: Any, given: dict[str, Any], repository: str) -> dict[str, Any]:
    """The arguments for the network, if they are that and no more."""
    # These say what is loaded and from where, a file to unpickle among them; and a network's own are none of them.
    builders = (library.create_model, library.models.build_model_with_cfg)
    reserved = {name for builder in builders for name in inspect.signature(builder).parameters}
    for name, value in given.items():
        if name in reserved:
            raise UserError(
                f"config.json of {repository} sets '{name}' in model_args, which does not build a network but "
                "says how it is loaded, so it is refused: choose another repository"
            )
        if not _is_plain(value):
            raise UserError(
                f"config.json of {repository} sets '{name}' in model_args to what is not a number, word or list: "
                "choose another repository"
            )
    return given


def _is_plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < _DEEPEST and len(value) <= 1000 and all(_is_plain(part, depth + 1) for part in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, str) and len(value) <= 100) or isinstance(value, int)

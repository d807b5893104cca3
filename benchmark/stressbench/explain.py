"""A model as a text for a person: what it takes, how large it is, and where it can be disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stressbench import locations, passes, registry
from stressbench.contracts import Composite, Dataset, Finite
from stressbench.spec import parse


def model(text: str, dataset: Dataset) -> Iterator[str]:
    """The lines about the model that a spec names, as it is built for a dataset; it needs no weights.

    Raises `UserError` for a spec that is wrong and a model that cannot be built or fails on the dataset's images.
    """
    spec = parse(text)
    entry = registry.check_model(str(spec))
    module = registry.model(str(spec), dataset)
    height, width = dataset.image_size
    yield f"{spec}"
    yield f"{entry}, for {dataset.name} ({height}×{width}, {dataset.classes} classes)"
    yield ""
    parameters = sum(p.numel() for p in module.parameters())
    yield f"parameters      {parameters:,}"
    yield f"multiply-adds   {passes.multiply_adds(module, dataset.image_size):,} for one image, one pass"
    yield f"draws           {_draws(module)}"
    if isinstance(module, Composite):
        with registry.blamed(f"{entry} does not say what it is made of"):
            parts = ", ".join(f"{part.spec} (seed {part.seed})" for part in module.parts())
        yield f"made of         {parts}"
    yield from ("", "options:", *_options(str(spec)))
    yield from ("", "locations, for training-free wrappers:")
    found = locations.find(module, dataset.image_size)
    for number, place in found.items():
        yield f"  {number}  {place!s:<40} {_shape(place.shape)}"
    missing = [str(number) for number in range(5) if number not in found]
    if missing:
        yield f"  {', '.join(missing)} cannot be told: give a module's name"


def _draws(module: object) -> str:
    if not getattr(module, "stochastic", False):
        return "1, deterministic"
    most = module.most_draws if isinstance(module, Finite) else None
    return f"{getattr(module, 'default_draws', 1)} by default{f', {most} at most' if most else ''}"


def _options(spec: str) -> list[str]:
    options = [(key, option) for key, option in registry.options("models", spec).items() if key != "argument"]
    lines = [
        f"  {key:<14}{registry.option_type('models', spec, option)}"
        + ("" if option.default is option.empty else f", default {option.default}")
        for key, option in options
    ]
    return lines or ["  none"]


def _shape(shape: tuple[int, ...] | None) -> str:
    return "×".join(map(str, shape or ()))


def is_run(target: str) -> bool:
    """Whether a text is a run folder's or a record's path, and so no model."""
    path = Path(target)
    return path.is_file() or (path / "record.json").is_file()

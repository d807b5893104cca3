"""Trained weights: an index with checksums, and small files beside it.

`weights/index.json` in the leaderboard's folder lists the trained weights. A small file lies beside the index, a large
one at its URL; both have their checksum in the index.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from stressbench import weights
from stressbench._util import files
from stressbench._util.terminal import Screen
from stressbench.datasets.download import download
from stressbench.errors import UserError
from stressbench.spec import slug

ROOT = Path("leaderboard")  # where a checkout has it
FOLDER = "weights"
_INDEX = "index.json"
_REQUIRED = ("dataset", "model", "seed", "recipe", "epochs", "accuracy", "measured_on")  # in a file's metadata


class Entry(BaseModel):
    """One training's weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    model: str
    seed: int
    sha256: str
    """Hex digest of the safetensors file."""
    size: int
    """Bytes."""
    url: str | None
    """Where the file is published; None for one that lies beside the index alone."""
    training: dict[str, str]
    """The metadata of the file: recipe, epochs, versions, and what was measured."""

    @property
    def path(self) -> Path:
        """The path of the file beside the index; the layout is that of the store."""
        return Path(slug(self.dataset), slug(self.model), f"seed{self.seed}.safetensors")


_ENTRIES = TypeAdapter(list[Entry])


def read(root: Path) -> list[Entry]:
    """The index of a leaderboard's folder; empty if there is none. Raises `UserError` for a damaged one."""
    path = root / FOLDER / _INDEX
    if not path.exists():
        return []
    try:
        with files.reading(path):
            return _ENTRIES.validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(
            f"{path} is not an index of weights ({str(error).splitlines()[0]}): restore the file"
        ) from error


def add(file: Path, root: Path, url: str | None = None, copy: bool = True) -> Entry:
    """Add a file of `bench train` to the index; it replaces an older one of the same model, dataset and seed.

    With `copy` the file is copied beside the index; otherwise `url` is where it is published.

    Raises `UserError` for a file that `bench train` did not write, and if neither `copy` nor `url` is given.
    """
    if not copy and url is None:
        raise UserError(f"{file} would be listed and nowhere to be found: pass --url, or let it be copied")
    metadata = weights.metadata(file)
    try:
        dataset, model, seed, *_ = (metadata[key] for key in _REQUIRED)
    except KeyError as error:
        raise UserError(f"{file} does not name its model and dataset: pass a file that `bench train` wrote") from error
    content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    entry = Entry(
        dataset=dataset, model=model, seed=int(seed), sha256=sha256, size=len(content), url=url, training=metadata
    )
    others = [other for other in read(root) if other.path != entry.path]
    entries = sorted([*others, entry], key=lambda one: (one.dataset, one.model, one.seed))
    folder = root / FOLDER
    with files.writing(folder):
        if copy:
            (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
            files.replace(folder / entry.path, content)
        folder.mkdir(parents=True, exist_ok=True)
        files.replace(folder / _INDEX, _ENTRIES.dump_json(entries, indent=2) + b"\n")
    return entry


def pull(entry: Entry, root: Path, screen: Screen, replace: bool = False) -> Path:
    """Copy or download an entry's file into the store, where runs look for weights; returns its path there.

    Raises `UserError` if the store has other weights (unless `replace`), if the file is neither beside the index nor
    published, if it cannot be downloaded, and if its checksum differs.
    """
    target = weights.stored(entry.dataset, entry.model, entry.seed)
    if target.exists():
        if _sha256(target) == entry.sha256:
            return target
        if not replace:
            raise UserError(f"{target} holds other weights of {entry.model}: --replace puts the listed ones there")
    source = root / FOLDER / entry.path
    with files.writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    fetched = target.with_suffix(".fetched")
    if not source.exists() and entry.url is not None:
        download(entry.url, fetched, screen)
        source = fetched
    elif not source.exists():
        raise UserError(f"{source} is missing and published nowhere else: get it again with the repository")
    content = source.read_bytes()
    fetched.unlink(missing_ok=True)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        origin = entry.url if source == fetched else source
        raise UserError(f"{origin} is not the file that was listed (SHA-256 {entry.sha256[:12]}…): get it again")
    with files.writing(target.parent):
        files.replace(target, content)
    return target


def beside(dataset: str, model: str, seed: int, root: Path = ROOT) -> Path | None:
    """The file beside the index with the weights of a model's training; None if there is none.

    Raises `UserError` for a damaged index, and for a file that is not the listed one.
    """
    wanted = Path(slug(dataset), slug(model), f"seed{seed}.safetensors")
    entry = next((entry for entry in read(root) if entry.path == wanted), None)
    path = root / FOLDER / wanted
    if entry is None or not path.exists():
        return None
    if _sha256(path) != entry.sha256:
        raise UserError(f"{path} is not the file that was listed (SHA-256 {entry.sha256[:12]}…): get it again")
    return path


def chosen(entries: Sequence[Entry], model: str | None, dataset: str | None) -> list[Entry]:
    """The entries of a model and a dataset; raises `UserError` if there are none."""
    found = [e for e in entries if model in (None, e.model) and dataset in (None, e.dataset)]
    if not found:
        what = " on ".join(filter(None, (model, dataset))) or "any model"
        raise UserError(f"no weights of {what} are listed: `bench weights list` shows what there is")
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

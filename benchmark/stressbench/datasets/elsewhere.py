"""Images of another dataset in the size of a run's own: where a suite's sources come from."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import torch

from stressbench import registry
from stressbench._util.files import reading
from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.datasets.encoded import EncodedImages
from stressbench.datasets.folder import Columns, find
from stressbench.datasets.masks import SUFFIXES
from stressbench.datasets.own import Pixels, check_name, stands_for
from stressbench.datasets.parquet import images_alone
from stressbench.datasets.resized import Cover, resized
from stressbench.datasets.saved import is_saved, load_saved
from stressbench.errors import UserError


def elsewhere(name: str, source_dir: Path | None, own: Dataset) -> Dataset:
    """The source called `name`, with images of the size of the run's `own`; labels say nothing and count as 0.

    In `source_dir` it is the files that a list `name.txt` names (a path below `source_dir` a line, and whatever follows
    it, as OpenOOD's lists have it), or what is in a folder `name`: Parquet files of a test split, or image files of any
    sizes at any depth, in its folder `test` where it has one. Else it is the test split of the dataset that a plugin
    offers under that name; a folder with the published files of one is read by that plugin.

    Raises `UserError` where it is in neither place, cannot be read, or begins with the very images of the run.
    """
    images = None if source_dir is None else _local(name, source_dir, Cover(own.image_size))
    if images is None:
        found = resized(_offered(name, source_dir), own.image_size)
        if not isinstance(found.task, Classification):
            found = _unlabelled(name, replace(found, task=Classification(1)))
    else:
        found = _unlabelled(
            name, Dataset(name, "test", Classification(1), images, InMemory(torch.zeros(0)), own.image_size)
        )
    if torch.equal(found.images.read(0, 1), own.images.read(0, 1)):
        raise UserError(
            f"source '{name}' begins with the images of {own.name}, so it is not from elsewhere: leave it out"
        )
    return found


def _unlabelled(name: str, dataset: Dataset) -> Dataset:
    return replace(dataset, name=name, targets=InMemory(torch.zeros(len(dataset.images), dtype=torch.int64)))


def _local(name: str, source_dir: Path, cover: Cover) -> Pixels | None:
    """What is in a folder under a name that no plugin offers; None where nothing is."""
    listed, folder = source_dir / f"{name}.txt", source_dir / name
    if listed.is_file():
        return EncodedImages.of_files(_listed(listed), cover)
    if not folder.is_dir() or stands_for(name) is not None:
        return None
    check_name(name)
    if is_saved(folder):
        return load_saved(folder, "test", Columns(), None, cover).images
    paths = _tree(folder / "test" if (folder / "test").is_dir() else folder)
    if not paths and not find(folder, "test"):
        raise UserError(
            f"{folder} holds neither image files ({', '.join(sorted(SUFFIXES))}) nor a test split in Parquet files: "
            "check --source-dir"
        )
    return EncodedImages.of_files(paths, cover) if paths else images_alone(folder, cover)


def _offered(name: str, source_dir: Path | None) -> Dataset:
    if stands_for(name) is None:
        raise UserError(
            f"dataset '{name}' not found, nor a folder of that name in --source-dir: install it, put its "
            "images into one, or leave it out of --sources"
        )
    local = None if source_dir is None else source_dir / name
    try:
        return registry.dataset(name, "test", local if local is not None and local.is_dir() else None)
    except UserError as error:
        raise UserError(f"source '{name}': {error} (as a source: its folder {name} in --source-dir)") from error


def _listed(path: Path) -> list[Path]:
    """The files that the lines of a list name, from its folder on; raises `UserError` for one that is not there."""
    with reading(path):
        lines = path.read_text(encoding="utf-8").splitlines()
    # A path may have spaces; what follows the last one is a label.
    found = [path.parent / line.rsplit(maxsplit=1)[0] for line in lines if line.strip()]
    missing = [one for one in found if not one.is_file()]
    if missing or not found:
        what = f"{len(missing)} of its {len(found)} files are missing, first {missing[0]}" if missing else "it is empty"
        raise UserError(f"{path}: {what}: its lines are paths from its own folder on, each followed by a label")
    return found


def _tree(folder: Path) -> list[Path]:
    """Image files at any depth: the first of each folder, then the second of each, so that a few are of all of them."""
    with reading(folder):
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    turns = itertools.zip_longest(*(list(group) for _, group in itertools.groupby(paths, key=lambda p: p.parent)))
    return [path for turn in turns for path in turn if path is not None]

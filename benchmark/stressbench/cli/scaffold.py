"""`bench plugin new`: the files of an installable package that offers a model, ready to run and to be changed."""

from __future__ import annotations

import keyword
import os
import re
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from string import Template

from stressbench._util.files import writing
from stressbench.errors import UserError

# By path; $name is the package's and the model's name, $module the name under which the package is imported.
_FILES = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "$name"
version = "0.1.0"
description = "A model for stressbench"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["stressbench", "torch"]

[project.optional-dependencies]
test = ["pytest"]

# A line for each model: the name that people write = "where it is imported from:the callable that builds it".
[project.entry-points."stressbench.models"]
"$name" = "$module:Net"

[tool.setuptools.packages.find]
where = ["src"]

[tool.pytest.ini_options]
testpaths = ["tests"]
""",
    "src/$module/__init__.py": '''\
"""The model `$name` of stressbench."""

from torch import Tensor, nn

from stressbench.contracts import Dataset


class Net(nn.Module):
    """A small convolutional network, to be changed; what follows `dataset` are its options: `$name,width=32`."""

    untrained = True  # built without its weights: `bench train` makes them, or --weights names them

    def __init__(self, dataset: Dataset, width: int = 16) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm2d(3, affine=False)  # a model normalises its images itself
        self.stage1 = stage(3, width)
        self.stage2 = stage(width, 2 * width)
        self.stage3 = stage(2 * width, 4 * width)
        self.head = nn.Linear(4 * width, dataset.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W), float in [0, 1], to logits (N, classes)."""
        maps = self.stage3(self.stage2(self.stage1(self.normalise(images))))
        return self.head(maps.mean(dim=(2, 3)))


def stage(given: int, returned: int) -> nn.Module:
    """A convolution that halves the maps' height and width."""
    return nn.Sequential(nn.Conv2d(given, returned, 3, stride=2, padding=1), nn.BatchNorm2d(returned), nn.ReLU())
''',
    "tests/test_$module.py": '''\
"""What stressbench expects of every model; for what each check means, see its docs/checking-a-model.md."""

from stressbench.testing import check_model, random_dataset


def test_it_keeps_what_models_promise() -> None:
    check_model("$name")


def test_it_takes_options_and_other_datasets() -> None:
    check_model("$name,width=4", random_dataset(classes=100, image_size=(64, 64)))
''',
    "README.md": """\
# $name

A model for stressbench. It is `Net` in `src/$module/__init__.py`; a line in
`pyproject.toml` offers it under the name `$name`.

## Install and check

In this folder, in the environment that has stressbench:

```sh
pip install -e ".[test]"
bench list models          # shows $name, of $name 0.1.0
bench plugin check $name   # whether it keeps what models promise
pytest                     # the same as a test
```

## Run

```sh
bench run --model $name
```

runs it through the corruption suite on the embedded digits, on which it is trained on the spot, in seconds. On other
data train it once:

```sh
bench train --model $name --dataset cifar10
bench run --model $name --dataset cifar10 --suite all
```

Options go behind the name, `--model $name,width=32`, and other plugins take it by its name: `ensemble:$name,size=3`,
`infer-dropout:$name,rate=0.1`. To bring weights of your own, give `bench run --weights FILE`, or load them where the
model is built and leave `untrained = True` out.

## Publish

- The package: `python -m build`, and upload it as any other. Once it is installed, `bench list` shows the model.
  Where two packages offer one name, people write `$name/$name`. Raise the version whenever the same weights could
  give other numbers: records and run folders name it.
- A result: `bench leaderboard add RUN` in a checkout of stressbench, and a pull request, as its CONTRIBUTING.md says.
""",
    ".gitignore": """\
__pycache__/
*.egg-info/
/build/
/dist/
/runs/
.pytest_cache/
""",
}


def create(name: str, folder: Path) -> list[Path]:
    """Write a package that offers a model under its own name into a new folder, all of it or nothing.

    Returns the files' paths. Raises `UserError` for a name that a package cannot have or that an installed one has,
    for an existing folder, and if it cannot be written.
    """
    _require_free(name)
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder} is there already, and nothing is overwritten: choose another folder with --out")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    written = files(name)
    with writing(folder):
        try:
            for path, text in written.items():
                (partial / path).parent.mkdir(parents=True, exist_ok=True)
                (partial / path).write_text(text, encoding="utf-8")
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return [folder / path for path in written]


def files(name: str) -> dict[Path, str]:
    """The text of each file of such a package, by its path inside; raises `UserError` for an invalid name."""
    words = {"name": name, "module": _module(name)}
    return {Path(Template(path).substitute(words)): Template(text).substitute(words) for path, text in _FILES.items()}


def _module(name: str) -> str:
    """The name under which a package called `name` is imported; raises `UserError` where it can have neither."""
    module = re.sub(r"[-.]+", "_", name).lower()
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        raise UserError(
            f"'{name}' cannot be a package's name: use letters, digits, - and _, with a letter first and no - or _ last"
        )
    if not module.isidentifier() or keyword.iskeyword(module):
        raise UserError(f"'{name}' cannot be imported: '{module}' is not a valid Python name, choose another")
    return module


def _require_free(name: str) -> None:
    """Raise `UserError` where something that is installed would be replaced or hidden by a package called `name`."""
    module = _module(name)
    try:
        there = distribution(name)
    except PackageNotFoundError:
        if find_spec(module) is None:
            return
        raise UserError(
            f"there is a module '{module}' here, and the new one would hide it: choose another name"
        ) from None
    raise UserError(
        f"there is a package {there.name} {there.version} here, and pip would put the new one in its place: "
        "choose another name"
    )

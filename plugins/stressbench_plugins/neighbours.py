"""The modules beside a Python file that it imports."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path

from stressbench.errors import UserError


def neighbours(path: Path, source: bytes) -> dict[Path, bytes]:
    """The files beside `path` that it imports, directly or through each other; of a package, all of its modules.

    With their contents, sorted by path. They are found from the import statements alone: nothing runs. Raises
    `UserError` for a neighbour that has the name of an installed module, or of another file's neighbour that is loaded
    already, since either could be meant.
    """
    found: dict[Path, bytes] = {}
    todo = [source]
    while todo:
        for name in _imported(todo.pop()):
            for file in _files(path, name):
                if file != path and file not in found:
                    found[file] = read(file)
                    todo.append(found[file])
    return dict(sorted(found.items()))


@functools.cache
def read(file: Path) -> bytes:
    """A file's content when this process first read it, since a module that is loaded is not loaded again."""
    return file.read_bytes()


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Modules in `folder` can be imported inside, after installed ones, and no bytecode is written beside them."""
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = written


def _imported(source: bytes) -> set[str]:
    """The first parts of the absolute names that a module imports, wherever it does so; none if it is not Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # importing it says so
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def _files(path: Path, name: str) -> list[Path]:
    package, module = path.parent / name, path.parent / f"{name}.py"
    files = [module] if module.is_file() else []
    if (package / "__init__.py").is_file():
        files = sorted(package.rglob("*.py"))
    elif not files and package.is_dir() and not _installed(path.parent, name):  # a package without __init__.py
        return sorted(package.rglob("*.py"))
    if files and (other := _installed(path.parent, name) or _loaded_elsewhere(path.parent, name)):
        raise UserError(f"{path} imports '{name}', which lies beside it and is {other}: rename the one beside it")
    return files


def _installed(folder: Path, name: str) -> str | None:
    if name in sys.stdlib_module_names:
        return "a part of Python, too"
    # The working folder stands on the path, as '' or as it is, for some ways to start Python.
    elsewhere = [entry for entry in sys.path if Path(entry or ".").absolute() != folder]
    spec = PathFinder.find_spec(name, elsewhere)
    return None if spec is None or spec.origin is None else f"installed, too ({spec.origin})"


def _loaded_elsewhere(folder: Path, name: str) -> str | None:
    origin = getattr(sys.modules.get(name), "__file__", None)
    if origin is None or Path(origin).is_relative_to(folder):
        return None
    return f"loaded already from another folder ({origin})"

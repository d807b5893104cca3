"""Models of a local Python file: `file:nets.py:small,width=8` is what its `small`, a function or a class, makes with
`width=8`, and `file:nets.py:net` a network that is there.

The file may import modules that lie beside it. Its content and theirs have a digest, which stands in records, and under
which trained weights are kept, so that nothing that was made with another content is taken for this one's.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import Field

from stressbench.errors import UserError, describe, did_you_mean
from stressbench.isolation import importing
from stressbench.registry import Entry
from stressbench_plugins.neighbours import importable, neighbours

_DIGITS = 12  # of the SHA-256 digest

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

# What an option is that has neither annotation nor default: the first of these that its text can be.
_Any = Annotated[int | float | bool | str, Field(union_mode="left_to_right")]


@dataclass(frozen=True)
class Content:
    """A file, and what it imports from beside it, as they were when this process first read them."""

    path: Path
    source: bytes
    beside: tuple[tuple[str, bytes], ...] = ()
    """The path from the file's folder, and the content, of each."""

    @property
    def digest(self) -> str:
        if not self.beside:
            return hashlib.sha256(self.source).hexdigest()[:_DIGITS]
        parts = [("", self.source), *self.beside]
        listed = "\n".join(f"{hashlib.sha256(source).hexdigest()} {name}" for name, source in parts)
        return hashlib.sha256(listed.encode()).hexdigest()[:_DIGITS]


@dataclass(frozen=True)
class Named:
    """A network of a file, or what makes one there, by its name."""

    content: Content
    name: str

    def load(self) -> Any:
        module = _imported(self.content)
        found = vars(module).get(self.name)
        if found is None:
            offered = [
                name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__
            ]
            raise UserError(
                f"{self.content.path} has no '{self.name}': {did_you_mean(self.name, offered)}"
                f"it has {', '.join(offered) or 'nothing to call'}"
            )
        return _factory(found, self.content, self.name)


class LocalFile:
    """Finds PATH.py:NAME; also PATH.py@DIGEST:NAME, as records have it, if the file's content has that digest."""

    def find(self, argument: str) -> Entry:
        match = re.fullmatch(rf"(.*\.py)(?:@([0-9a-f]{{{_DIGITS}}}))?:([^\W\d]\w*)", argument)
        if match is None:
            raise UserError(f"'file:{argument}' names no network: write file:PATH.py:NAME")
        content = _read(Path(match[1]).expanduser().absolute())
        if match[2] not in (None, content.digest):
            raise UserError(
                f"{content.path} has another content than 'file:{argument}' asks for: its digest is {content.digest}"
            )
        name = f"file:{content.path.name}@{content.digest}:{match[3]}"
        return Entry("models", name, "file", content.digest, Named(content, match[3]))


local_file = LocalFile()


# Once in a process, so that what a record says of the file is what was run.
@functools.cache
def _read(path: Path) -> Content:
    try:
        source = path.read_bytes()
        beside = neighbours(path, source)
        return Content(path, source, tuple((file.relative_to(path.parent).as_posix(), beside[file]) for file in beside))
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}: check the path") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


@functools.cache
def _imported(content: Content) -> ModuleType:
    # Compiled here and not by an importer, which would read the file again and leave its cache beside it.
    module = ModuleType(f"{content.path.stem}@{content.digest}")
    module.__file__ = str(content.path)
    sys.modules[module.__name__] = module  # where dataclasses and annotations look for what they name
    try:
        with importing(), importable(content.path.parent):
            # The user's own code, which they named.
            exec(compile(content.source, content.path, "exec"), vars(module))
    except Exception as error:
        del sys.modules[module.__name__]
        raise UserError(f"{content.path} cannot be imported: {describe(error)}. Fix it") from error
    return module


def _factory(found: Any, content: Content, name: str) -> Callable[..., Any]:
    """What the harness calls with the dataset and the options, for what stands in the file under `name`."""
    from torch import nn

    if not callable(found) and not isinstance(found, nn.Module):
        raise UserError(
            f"{content.path}: '{name}' is a {type(found).__name__}: "
            "name a network, or a class or function that makes one"
        )
    given = [] if isinstance(found, nn.Module) else list(inspect.signature(found).parameters.values())
    takes_dataset = bool(given) and _is_dataset(given[0])
    options = [_typed(one) for one in given[takes_dataset:] if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]

    def build(dataset: Any, **values: Any) -> Any:
        if isinstance(found, nn.Module):
            return copy.deepcopy(found)  # members of an ensemble share nothing
        missing = [one.name for one in options if one.default is one.empty and one.name not in values]
        if missing:
            words = ",".join(f"{one}=VALUE" for one in missing)
            raise UserError(f"{name} in {content.path} needs a value: write file:{content.path.name}:{name},{words}")
        with importable(content.path.parent):
            return found(*([dataset] if takes_dataset else []), **values)

    build.__wrapped__ = found  # type: ignore[attr-defined]  # where the names in annotations are looked up
    first = inspect.Parameter("dataset", inspect.Parameter.POSITIONAL_ONLY)
    build.__signature__ = inspect.Signature([first, *options])  # type: ignore[attr-defined]
    return build


def _is_dataset(first: inspect.Parameter) -> bool:
    """Whether a callable's first parameter is given the dataset; else it is an option, as the others."""
    if first.kind not in _POSITIONAL:
        return False
    if first.annotation is not first.empty:
        annotation = (
            first.annotation if isinstance(first.annotation, str) else getattr(first.annotation, "__name__", "")
        )
        return first.name == "dataset" or annotation.rpartition(".")[2] == "Dataset"
    return first.default is first.empty and "class" not in first.name  # num_classes


def _typed(option: inspect.Parameter) -> inspect.Parameter:
    """An option that is given by its name, with a type where it says nothing of one."""
    if option.kind in _POSITIONAL:
        option = option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    silent = option.annotation is option.empty and option.default is option.empty
    return option.replace(annotation=_Any) if silent else option

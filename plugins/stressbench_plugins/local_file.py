"""Models that a function in a local Python file makes: `file:nets.py:small,width=8` is its `small(dataset, width=8)`.

The file is imported by itself: what lies beside it is not on the path. Its content has a digest, which stands in
records, and under which its trained weights are kept, so that nothing that was made with another content is taken for
this one's.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from stressbench.errors import UserError, describe, did_you_mean
from stressbench.isolation import importing
from stressbench.registry import Entry

_DIGITS = 12  # of the SHA-256 digest


@dataclass(frozen=True)
class Content:
    """A file as it was when this process first read it."""

    path: Path
    source: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.source).hexdigest()[:_DIGITS]


@dataclass(frozen=True)
class Named:
    """A callable of a file, by its name."""

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
        return found


class LocalFile:
    """Finds PATH.py:NAME; also PATH.py@DIGEST:NAME, as records have it, if the file's content has that digest."""

    def find(self, argument: str) -> Entry:
        match = re.fullmatch(rf"(.*\.py)(?:@([0-9a-f]{{{_DIGITS}}}))?:([^\W\d]\w*)", argument)
        if match is None:
            raise UserError(f"'file:{argument}' names no callable: write file:PATH.py:NAME")
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
        return Content(path, path.read_bytes())
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
        with importing():
            # The user's own code, which they named.
            exec(compile(content.source, content.path, "exec"), vars(module))
    except Exception as error:
        del sys.modules[module.__name__]
        raise UserError(f"{content.path} cannot be imported: {describe(error)}. Fix it") from error
    return module

"""What a shell completes: names of plugins, from the metadata of distributions, so that nothing of them is imported."""

from __future__ import annotations

import re
from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

from stressbench import registry

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def names(*kinds: str, paths: bool = False) -> Complete:
    """Completes a spec of these `registry.KINDS`, the models inside of it too; with `paths`, what looks like a path."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if paths and re.search(r"^\.|[/\\]", incomplete):
            return [CompletionItem(incomplete, type="file")]
        # A model's name may follow that of a wrapper, or another model's in an ensemble; options have no list here.
        before = re.match(r".*[:(+]|", incomplete)
        assert before is not None, "it matches nothing at all, too"
        start = before[0]
        if "," in incomplete[len(start) :]:
            return []
        offered = {name for kind in kinds for name in _specs(kind)}
        return [CompletionItem(f"{start}{name}") for name in sorted(offered) if f"{start}{name}".startswith(incomplete)]

    return complete


def _specs(kind: str) -> list[str]:
    """The names of a kind, with a colon where something has to follow."""
    return [f"{entry.name}:" if entry.argument else entry.name for entry in registry.entries(kind)]

"""Options of a command in sections of its --help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


class SectionedCommand(click.Command):
    """A command whose --help lists its options in sections, by heading; those in none come last, under Options."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **settings: Any) -> None:
        """`sections` has the options of each heading as one types them, in the order in which they are shown."""
        super().__init__(*args, **settings)
        self._sections = sections or {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        left = {one.opts[0]: shown for one in options if (shown := one.get_help_record(ctx)) is not None}
        for heading, names in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl([left.pop(name) for name in names])
        with formatter.section("Options"):
            formatter.write_dl(list(left.values()))

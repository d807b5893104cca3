"""The leaderboard's pages: a table each, a model each, and `index.html`, which opens with the best table.

They are static files that link to each other by relative paths, so the folder can be put on any server, or be opened
from a disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from stressbench.leaderboard import html, models, tables
from stressbench.leaderboard.paths import INDEX, MODELS, TABLES
from stressbench.leaderboard.ranking import Entry, Group, Ranked

# The suite whose table opens the page, where it has results.
_FIRST = "corruption"


def pages(groups: Sequence[Group]) -> dict[str, str]:
    """Each page's text by its path in the leaderboard's folder."""
    if not groups:
        return {INDEX: html.render("empty.j2", up="", contents=[], undecided=[], here=None)}
    site = Site(groups)
    found = {INDEX: site.table(min(groups, key=_importance), None, "")}
    for group in groups:
        for draws in (None, *group.draws):
            found[tables.path(group, draws)] = site.table(group, draws, "../")
    found |= {f"{MODELS}/index.html": site.listed()}
    found |= {models.path(name): site.model(name) for name in site.models}
    return found


class Site:
    """Groups of results, and where each of them and each model has its page."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.models: dict[str, list[tuple[Group, Ranked]]] = {}
        offers = {(e.record.model.spec, e.record.model.distribution) for group in groups for e in group.entries}
        specs = [spec for spec, _ in offers]
        self._shared = {spec for spec in specs if specs.count(spec) > 1}
        for group in groups:
            for ranked in group.own:
                self.models.setdefault(self.name(ranked.entry), []).append((group, ranked))
        self._undecided = {group.key for group in groups if group.undecided}

    def name(self, entry: Entry) -> str:
        """A model's name, with its distribution if the leaderboard has another model of the same name."""
        model = entry.record.model
        return f"{model.spec} ({model.distribution})" if model.spec in self._shared else model.spec

    def table(self, group: Group, draws: int | None, up: str) -> str:
        return html.render(
            "table.j2",
            **self._contents(up, tables.path(group, None)),
            first=up == "",
            undecided_here=group.undecided_at(draws),
            table=tables.table(group, draws, self.name),
        )

    def model(self, name: str) -> str:
        return html.render("model.j2", **self._contents("../", None), model=models.model(name, self.models[name]))

    def listed(self) -> str:
        names = [(name, models.path(name), len(results)) for name, results in sorted(self.models.items())]
        return html.render("models.j2", **self._contents("../", f"{MODELS}/index.html"), models=names)

    def _contents(self, up: str, here: str | None) -> dict[str, Any]:
        """The contents list: tables by dataset, and apart from them those that decide nothing."""
        decided = [group for group in self.groups if group.key not in self._undecided]
        apart = [group for group in self.groups if group.key in self._undecided]
        by_dataset = groupby(sorted(decided, key=lambda group: group.dataset), key=lambda group: group.dataset)
        return {
            "up": up,
            "here": here,
            "contents": [(dataset, [*_links(list(members))]) for dataset, members in by_dataset],
            "undecided": [*_links(apart, with_dataset=True)],
        }


def _links(groups: Sequence[Group], with_dataset: bool = False) -> Iterator[dict[str, Any]]:
    titles = [(group.title, group.dataset) for group in groups]
    for group in groups:
        name = f"{group.title} on {group.dataset}" if with_dataset else group.title
        if titles.count((group.title, group.dataset)) > 1:
            name += f" ({group.record.dataset.n:,} images, {group.record.dataset.stress}, {group.key})"
        yield {"name": name, "path": tables.path(group, None), "results": len(group.entries)}


def _importance(group: Group) -> tuple[bool, bool, int, int, str]:
    """Smallest for the table that the page opens with."""
    n = group.record.dataset.n
    return group.undecided, group.suite.name != _FIRST, -len(group.entries), -n, f"{TABLES}/{group.key}"

"""Generates README.md and the pages from records; the same records give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path

from stressbench._util.files import replace, writing
from stressbench.errors import UserError, did_you_mean
from stressbench.leaderboard import markdown, ranking, site
from stressbench.leaderboard.paths import MODELS, TABLES
from stressbench.leaderboard.ranking import Entry, Group


def build(root: Path, labels: Mapping[str, str] | None = None) -> list[Path]:
    """Write all pages of a leaderboard's folder, and return their paths: README.md, index.html, and all others.

    Pages of tables and models that are no more are deleted. `labels` are names of models, by spec, that these pages
    show in place of those of the records. Raises `UserError` if a file is not a valid record, for a label of a model
    that no record is of, or if the pages cannot be written.
    """
    groups = _labelled(list(ranking.groups(root)), labels or {})
    pages = {"README.md": markdown.render(groups), **site.pages(groups)}
    written = {root / name: text for name, text in pages.items()}
    with writing(root):
        for path, text in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, text.encode())
        for folder in (TABLES, MODELS):
            for path in (root / folder).glob("*.html"):
                if path not in written:
                    path.unlink()
    return list(written)


def _labelled(groups: Sequence[Group], labels: Mapping[str, str]) -> list[Group]:
    specs = {entry.record.model.spec for group in groups for entry in group.entries}
    if unknown := [spec for spec in labels if spec not in specs]:
        hint = did_you_mean(unknown[0], sorted(specs))
        raise UserError(f"--label names {unknown[0]}, and no record here is of it: {hint}see models/index.html")

    def named(entry: Entry) -> Entry:
        record = entry.record
        return changed(entry, record=record.named(labels.get(record.model.spec, record.model.name)))

    return [changed(group, entries=[named(entry) for entry in group.entries]) for group in groups]

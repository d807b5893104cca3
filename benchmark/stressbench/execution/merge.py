"""Run folders that each hold a part of one run's conditions → a folder with all of them, and its record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from stressbench._util import files
from stressbench._util.terminal import Screen
from stressbench.contracts import Condition, Suite
from stressbench.errors import UserError, plugin_errors
from stressbench.execution.assembly import Outline, assemble
from stressbench.execution.first_batch import beside, kept_findings, write_findings
from stressbench.execution.store import Store
from stressbench.record import Finding, Record
from stressbench.results import runs
from stressbench.results.conditions import describe
from stressbench.results.intervals import with_intervals
from stressbench.results.scoring import left_out, scored
from stressbench.results.tables import Damaged

_MOST_TEXT = 16 * 2**20  # bytes of run.json and of part.json
_NAMED = 5  # conditions in a message


@dataclass(frozen=True)
class Merged:
    """A folder with the tables of all conditions."""

    folder: Path
    record: Record
    suite: Suite


@dataclass(frozen=True)
class Incomplete:
    """A folder that lacks the tables of some conditions."""

    folder: Path
    lacking: Sequence[Condition]
    total: int

    def __str__(self) -> str:
        named = "; ".join(map(describe, self.lacking[:_NAMED]))
        more = f" and {len(self.lacking) - _NAMED} more" if len(self.lacking) > _NAMED else ""
        return f"{self.folder} lacks {len(self.lacking)} of {self.total} conditions: {named}{more}"


def merge(paths: Sequence[Path], out: Path, screen: Screen) -> Iterator[Merged | Incomplete]:
    """Join the run folders, or those in folders of them, that have one identity, each as a folder in `out`.

    What is in `out` already counts too, so that parts can be added later. Raises `UserError` for a path that is not
    a run folder or a folder of them, for parts that contradict each other, and where `out` cannot be written.
    """
    groups: dict[tuple[str, str], list[Store]] = {}
    for folder in (folder for path in paths for folder in _folders(path)):
        identity = files.text(folder / "run.json", _MOST_TEXT).removesuffix("\n")
        groups.setdefault((folder.name, identity), []).append(Store(folder, identity))
    for (name, identity), stores in groups.items():
        target = Store(out / name, identity)
        with target.open(fresh=False):
            yield _joined(target, stores, screen)


def _folders(path: Path) -> list[Path]:
    """The run folder itself, or those in it."""
    found = [path] if (path / "run.json").is_file() else sorted(file.parent for file in path.glob("*/run.json"))
    if not found:
        raise UserError(f"{path} is not a run, and no folder in it is: give folders that `bench run --shard` wrote")
    return found


def _joined(target: Store, parts: Sequence[Store], screen: Screen) -> Merged | Incomplete:
    outline = _outline(target, [*parts, target], screen)
    rows = [(row.condition, row.n) for row in outline.record.conditions]
    lacking = [condition for condition, n in rows if not _taken(target, parts, condition, n, screen)]
    findings = _findings([*parts, target])
    target.write_part(outline.model_dump_json(indent=2) + "\n")
    write_findings(target, findings)
    if lacking:
        return Incomplete(target.folder, lacking, len(rows))
    suite = runs.of_record(target.folder, outline.record).configured_suite
    tables, seconds = target.whole(rows)
    scoring = (suite, [condition for condition, _ in rows], tables, outline.record.suite.baseline)
    with plugin_errors(f"the {suite.name} suite failed on the tables in {target.folder}"):
        scores = scored(*scoring)
        noticed = suite.findings(scoring[1], scores[outline.record.draws].rows)
        record = assemble(outline, suite, tables, scores, beside(noticed, findings), seconds)
        record = with_intervals(record, suite, scores, list(left_out(*scoring)))
    target.write_record(record.to_json())
    return Merged(target.folder, record, suite)


def _outline(target: Store, stores: Sequence[Store], screen: Screen) -> Outline:
    """The outline of the parts; raises `UserError` where there is none, or two differ in more than the machine."""
    found: dict[Path, Outline] = {}
    for store in stores:
        path = store.folder / "part.json"
        if not path.is_file():
            continue
        try:
            found[path] = Outline.model_validate_json(files.text(path, _MOST_TEXT))
        except ValidationError as error:
            raise UserError(f"{path} is not what `bench run --shard` wrote: run that part again") from error
    if not found:
        raise UserError(
            f"{stores[0].folder} is not a part of a run that is done: finish the same command with --shard first"
        )
    (first, outline), *others = found.items()
    for path, other in others:
        if _facts(other) != _facts(outline):
            raise UserError(f"{path} and {first} are of different runs, although their names are the same")
        if other.record.environment != outline.record.environment:
            screen.note(f"{path} was made elsewhere, or with other versions, than {first}, which the record lists")
    return outline


def _facts(outline: Outline) -> dict[str, object]:
    """All but when, where and in which batches it was made."""
    return outline.model_dump(exclude={"record": {"created", "environment", "batch_size"}})


def _taken(target: Store, parts: Sequence[Store], condition: Condition, rows: int, screen: Screen) -> bool:
    """Whether the target has a condition's tables: its own, or now those of a part."""
    for store in (target, *parts):
        try:
            if store.read(condition, rows) is not None:
                if store is not target:
                    target.take(store, condition)
                return True
        except Damaged as damage:
            screen.note(f"{damage.what}: it is left out")
    return False


def _findings(stores: Sequence[Store]) -> list[Finding]:
    """What the parts noticed about the model, each once."""
    found: list[Finding] = []
    for store in stores:
        found += [finding for finding in kept_findings(store) or () if finding not in found]
    return found

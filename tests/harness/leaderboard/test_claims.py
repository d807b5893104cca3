"""claims.toml and the command: what a file of claims may hold, and the page that a leaderboard's folder gets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, Bench
from leaderboard_records import around, claimed, put
from stressbench import registry
from stressbench.errors import UserError
from stressbench.leaderboard.answers import answers
from stressbench.leaderboard.claims import read
from stressbench.leaderboard.paths import paths
from stressbench.leaderboard.replication import write
from stressbench.record import Record

FILE = """
dataset = "squares"
about = "About it."

[[comparisons]]
question = "Is b better than a?"
source = "somebody"
suite = "corruption"
metrics = ["mean_error"]
expect = "lower"

[[comparisons.pairs]]
first = { model = "a" }
second = { model = "b", draws = 2, or_most = true }
paper = { mean_error = "20 → 10 %" }

[[extremes]]
question = "Is the strongest fog the worst?"
source = "somebody"
suite = "corruption"
models = ["a"]
metric = "error"
expect = "higher"
where = { corruption = "fog" }
field = "severity"
inside = [4.5, 5]
paper = "the strongest"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "leaderboard"
    for made in (around("a", 0.2), around("b", 0.1, curve={1: 0.2, 2: 0.1})):
        put(made, folder / paths(Record.model_validate(made))[0])
    (folder / "claims.toml").write_text(FILE)
    return folder


def test_the_command_writes_the_page(root: Path, bench: Bench) -> None:
    done = bench("leaderboard", "replicate", "--root", root)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{root / 'REPLICATION.md'}\n", "")
    rows = claimed((root / "REPLICATION.md").read_text())
    assert [row["verdict"] for row in rows] == ["agrees", "undecided: the interval holds 0"]
    assert rows[0]["difference"] == "-10.00 pp [-14.24, -5.76]"  # 0.03·√2 = 0.0424


def test_the_same_records_give_the_same_bytes(root: Path) -> None:
    first = write(root).read_bytes()
    assert write(root).read_bytes() == first
    command = [sys.executable, "-c", "import sys, pathlib, stressbench.leaderboard.replication as f; "
               "f.write(pathlib.Path(sys.argv[1]))", str(root)]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    assert (root / "REPLICATION.md").read_bytes() == first


def test_another_record_makes_another_page(root: Path) -> None:
    """What the freshness test rests on."""
    first = write(root).read_bytes()
    (root / "records/squares/corruption/a.json").unlink()
    assert write(root).read_bytes() != first


def test_the_projects_own_report_is_fresh(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "leaderboard", tmp_path / "leaderboard")
    committed = (ROOT / "leaderboard" / "REPLICATION.md").read_bytes()
    page = write(tmp_path / "leaderboard")
    assert page.read_bytes() == committed, "run `bench leaderboard replicate` and commit what it writes"


def test_the_projects_own_claims_can_all_be_answered() -> None:
    """Every suite, metric and model of the file is one that is installed, and every condition one of its suite's."""
    wanted = read(ROOT / "leaderboard" / "claims.toml")
    sides = [side for claim in wanted.comparisons for one in claim.pairs for side in (one.first, one.second)]
    named = {side.model for side in sides} | {side.minus for side in sides if side.minus is not None}
    for model in named | {model for claim in wanted.extremes for model in claim.models}:
        assert registry.resolve(model).canonical == model, "records have a model's options in alphabetical order"
    for claim in wanted.extremes:
        places = [
            condition[claim.field]
            for condition in registry.suite(claim.suite).conditions()
            if claim.where.items() <= condition.items()
        ]
        for low, high in (claim.inside, claim.against or claim.inside):
            assert any(low <= place <= high for place in places)
    assert len(list(answers(wanted, []))) == len(wanted.comparisons) + len(wanted.extremes)


def test_a_missing_file_is_one_line(tmp_path: Path, bench: Bench) -> None:
    done = bench("leaderboard", "replicate", "--root", tmp_path)
    line = f"there is no {tmp_path / 'claims.toml'}, which would say what to look for: docs/leaderboard.md has its keys"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"bench: {line}\n")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('dataset = "squares"', "", "dataset: Field required"),
        ('dataset = "squares"', "dataset = squares", "is not TOML: "),
        ('expect = "lower"', 'expect = "less"', "comparisons.0.expect: Input should be 'lower', 'higher' or"),
        ('expect = "lower"', 'expect = "lower"\nmargin = 0.1', "a margin goes with expect = 'no-worse'"),
        ('expect = "lower"', 'expect = "no-worse"', "a margin goes with expect = 'no-worse'"),
        ('expect = "lower"', 'expect = "no-worse"\nmargin = -1', "comparisons.0.margin: Input should be greater"),
        ('expect = "lower"', 'expect = "no-worse"\nmargin = inf', "comparisons.0.margin: "),
        ("question =", "qestion =", "there is no key 'comparisons.0.qestion': did you mean 'question'? docs/"),
        ("draws = 2, ", "", "or_most goes with draws"),
        ("draws = 2", 'draws = "2"', "comparisons.0.pairs.0.second.draws: Input should be a valid integer"),
        ("draws = 2", "draws = 0", "comparisons.0.pairs.0.second.draws: Input should be greater than or equal to 1"),
        ('model = "b"', 'model = "b("', "unbalanced brackets"),
        ("paper = { mean_error", "paper = { mean_eror", "the paper's 'mean_eror' is none of the comparison's metrics"),
        ("[4.5, 5]", "[5, 4]", "extremes.0.inside: Value error, it ends before it starts"),
        ("[4.5, 5]", "[5]", "extremes.0.inside: List should have at least 2 items"),
        ('suite = "corruption"', 'suite = "corrupton"', "there is no suite called 'corrupton': did you mean"),
        ('["mean_error"]', '["mean_eror"]', "the paper's 'mean_error' is none of the comparison's metrics"),
        ('metric = "error"', 'metric = "eror"', "corruption has no metric 'eror': did you mean 'error'? known"),
    ],
)  # fmt: skip
def test_a_faulty_file_is_one_line(old: str, new: str, line: str, root: Path) -> None:
    assert old in FILE
    (root / "claims.toml").write_text(FILE.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        write(root)
    assert line in str(error.value)
    assert not (root / "REPLICATION.md").exists()


def test_a_file_without_claims_is_refused(root: Path) -> None:
    (root / "claims.toml").write_text('dataset = "squares"\nabout = "x"\n')
    with pytest.raises(UserError, match=r"it has neither \[\[comparisons\]\] nor \[\[extremes\]\]"):
        write(root)


def test_a_faulty_record_stops_it(root: Path) -> None:
    path = root / "records/squares/corruption/a.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "draws": 2}))
    with pytest.raises(UserError, match="a deterministic model has one draw"):
        write(root)

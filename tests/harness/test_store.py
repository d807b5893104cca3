"""The run folder: what is written is whole, and what is not whole is not read."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stressbench._util.files import replace
from stressbench.contracts import Condition
from stressbench.errors import UserError
from stressbench.execution.store import Store
from stressbench.results.tables import Damaged

FOG = {"corruption": "fog", "severity": 3}
COLUMNS = {"index": np.arange(4), "nll": np.array([0.5, 1, 2, 3], dtype=np.float32), "correct": np.array([True] * 4)}


def store(out: Path, **identity: object) -> Store:
    made = Store.of(out, "data-suite-model", {"seed": 0, **identity})
    with made.open(fresh=False):
        pass
    return made


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    made = store(tmp_path)
    assert made.read(FOG, 4) is None
    made.write(FOG, {1: COLUMNS}, 1.5)
    found = made.read(FOG, 4)
    assert found is not None
    tables, seconds = found
    assert seconds == 1.5
    (frame,) = tables.values()
    for name, column in COLUMNS.items():
        assert frame[name].dtype == column.dtype
        np.testing.assert_array_equal(frame[name], column)


def test_tables_of_several_numbers_of_draws_lie_in_one_file_each_with_its_own_columns(tmp_path: Path) -> None:
    made = store(tmp_path)
    lists = {size: {"index": np.arange(4), "curve": size + np.arange(12.0).reshape(4, 3)} for size in (1, 5)}
    made.write(FOG, lists, 1.5)
    found = made.read(FOG, 4)
    assert found is not None
    assert list(found[0]) == [1, 5]
    for size, columns in lists.items():
        assert found[0][size].columns.tolist() == ["index", "curve"]
        np.testing.assert_array_equal(np.stack(found[0][size]["curve"].to_list()), columns["curve"])


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"blur": 3}, {"noise": 3}),
        ({"a": "x", "b": 1}, {"a": "x-b=1"}),
        ({"a": "x-y", "b": 1}, {"a": "x", "y-b": 1}),
        ({"a=b": "c"}, {"a": "b=c"}),
        ({"a": "x/y"}, {"a": "x y"}),
    ],
)
def test_different_conditions_have_files_of_their_own(tmp_path: Path, one: Condition, two: Condition) -> None:
    made = store(tmp_path)
    assert made.path(one) != made.path(two)
    assert made.path(one).parent == made.path(two).parent == made.tables


def test_other_identities_have_other_folders(tmp_path: Path) -> None:
    assert store(tmp_path).folder != store(tmp_path, seed=1).folder
    assert store(tmp_path).folder == store(tmp_path).folder
    assert store(tmp_path).folder.name.startswith("data-suite-model-")


@given(cut=st.floats(0, 1, exclude_max=True))
def test_any_cut_is_seen(cut: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = store(tmp_path_factory.mktemp("cut"))
    made.write(FOG, {1: COLUMNS}, 1.5)
    path = made.path(FOG)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(Damaged, match=r"severity=3\.parquet is damaged"):
        made.read(FOG, 4)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_changed_bit_changes_a_number(place: float, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = store(tmp_path_factory.mktemp("bit"))
    made.write(FOG, {1: COLUMNS}, 1.5)
    path = made.path(FOG)
    whole = bytearray(path.read_bytes())
    whole[int(place * len(whole))] ^= 1 << bit
    path.write_bytes(whole)
    try:
        found = made.read(FOG, 4)
    except Damaged:
        return
    assert found is not None
    (frame,) = found[0].values()
    assert frame.columns.tolist() == list(COLUMNS)
    for name in COLUMNS:
        np.testing.assert_array_equal(frame[name], COLUMNS[name])


def test_a_table_of_another_run_condition_or_length_is_not_taken(tmp_path: Path) -> None:
    made, other = store(tmp_path), store(tmp_path, seed=1)
    made.write(FOG, {1: COLUMNS}, 1)
    other.path(FOG).write_bytes(made.path(FOG).read_bytes())
    with pytest.raises(Damaged, match="another run"):
        other.read(FOG, 4)
    snow = {"corruption": "snow", "severity": 3}
    made.path(snow).write_bytes(made.path(FOG).read_bytes())
    with pytest.raises(Damaged, match="another run"):
        made.read(snow, 4)
    with pytest.raises(Damaged, match="4 of 5 rows"):
        made.read(FOG, 5)


def test_conditions_cannot_leave_the_folder(tmp_path: Path) -> None:
    made = store(tmp_path)
    for name in ("../../x", "/etc/x", "a/b", "..", ""):
        assert made.path({"corruption": name}).parent == made.tables
    paths = {made.path({"attack": "pgd", "eps": eps}) for eps in (1 / 255, 2 / 255, 0.5, 1)}
    assert len(paths) == 4


def test_fresh_forgets_the_tables(tmp_path: Path) -> None:
    made = store(tmp_path)
    made.write(FOG, {1: COLUMNS}, 1)
    made.write_record("{}")
    with made.open(fresh=True):
        pass
    assert made.read(FOG, 4) is None
    assert not (made.folder / "record.json").exists()


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    made = store(tmp_path)
    with made.open(fresh=False), pytest.raises(UserError, match="another process is at work"):
        Store.of(tmp_path, "data-suite-model", {"seed": 0}).open(fresh=False)


def test_leftovers_of_a_killed_writer_are_cleared(tmp_path: Path) -> None:
    made = store(tmp_path)
    left = made.tables / "corruption=fog-severity=3.parquet.partial"
    left.write_bytes(b"half")
    with made.open(fresh=False):
        pass
    assert not left.exists()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    replace(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = store(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"No space left on device.*free some space"):
        made.write(FOG, {1: COLUMNS}, 1)
    assert not made.path(FOG).exists()


def test_a_folder_that_cannot_be_written_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*file.*--out"):
        Store.of(tmp_path / "file", "title", {}).open(fresh=False)

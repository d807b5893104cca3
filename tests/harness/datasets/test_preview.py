"""The contact sheet shows what a run shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stressbench import registry
from stressbench.cli import main
from stressbench.datasets.digits import digits
from stressbench.datasets.export import present
from stressbench.datasets.preview import sheet
from stressbench.errors import UserError


def test_each_cell_is_the_image_of_its_condition(tmp_path: Path) -> None:
    dataset, suite = digits("test"), registry.suite("corruption")
    page = np.asarray(Image.open(sheet(dataset, suite, 4, 7, 0, tmp_path / "sheet.png")))
    assert page.shape == (2 * 128, 8 * 112, 3)
    conditions = [c for c in suite.conditions() if c["severity"] in (0, 4)]
    for place, condition in enumerate(conditions):
        top, left = place // 8 * 128 + 2, place % 8 * 112 + 8
        shown = page[top : top + 96 : 3, left : left + 96 : 3]
        np.testing.assert_array_equal(shown, present(dataset, suite, condition, 7, 8, 0)[0])


def test_an_image_that_is_not_there_and_a_folder_that_is_not(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="digits has 200 test images"):
        sheet(digits("test"), registry.suite("corruption"), 3, 200, 0, tmp_path / "sheet.png")
    with pytest.raises(UserError, match="cannot write to"):
        sheet(digits("test"), registry.suite("corruption"), 3, 0, 0, tmp_path / "no" / "sheet.png")


def test_the_command_names_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["data", "preview", "--out", str(tmp_path / "sheet.png")])
    assert done.value.code == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").exists()

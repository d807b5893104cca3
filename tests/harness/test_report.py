"""`bench report`: one file with everything, in which nothing of a record is markup."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.made_runs import bench, made

EVIL = "<script>alert(1)</script> & \"'"


class Page(HTMLParser):
    """The page's elements, their attributes, and the rows of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("runs")
    few = ("--corruptions", "fog,contrast", "--severities", "1,4")
    return [
        made(out, "corruption", "tiny", *few, "--name", EVIL),
        made(out, "corruption", "tiny,width=4", *few),
        made(out, "frequency", "tiny", "--name", EVIL),
    ]


def test_a_report_has_the_numbers_the_comparison_and_the_figures(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    out = tmp_path / "there" / "report.html"
    assert bench("report", *runs, "--metrics", "clean_nll,noise_auc", "-o", out) == 0
    assert capsys.readouterr().out == f"{out}\n"
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    metrics = [json.loads((run / "record.json").read_text())["metrics"] for run in runs]
    assert page.rows[0] == ["model", "clean_nll ↓", "noise_auc ↑"]
    named, other = page.rows[1:3]
    assert named[0] == EVIL
    assert named[1].startswith(f"{metrics[0]['clean_nll']:.3f} (")
    assert named[2].startswith(f"{100 * metrics[2]['noise_auc']:.1f} % (")
    assert (other[0], other[2]) == ("tiny,width=4", "–")
    difference = metrics[1]["clean_nll"] - metrics[0]["clean_nll"]
    compared = next(row for row in page.rows[3:] if row[0] == "clean_nll ↓")
    assert compared[3].startswith(f"{difference:+.3f} [")
    for figure in ("by-severity", "heat-map-by-severity", "reliability", "by-frequency"):
        assert ("alt", figure) in page.attributes
    conditions = json.loads((runs[0] / "record.json").read_text())["conditions"]
    fog = next(row for row in conditions if row["condition"] == {"corruption": "fog", "severity": 4})
    assert ["fog", "4", f"{100 * fog['metrics']['error']:.1f} %"] in [row[:3] for row in page.rows]
    checksum = json.loads((runs[0] / "record.json").read_text())["model"]["weights_checksum"]
    assert ["weights", f"the plugin's own ({checksum})"] in page.rows


def test_nothing_of_a_record_is_markup_and_nothing_is_fetched(runs: list[Path], tmp_path: Path) -> None:
    assert bench("report", *runs, "-o", tmp_path / "a.html") == 0
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "a"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    addresses = [value for name, value in page.attributes if name in ("src", "href", "srcset")]
    assert addresses
    for address in addresses:
        kind, _, content = address.partition(";base64,")
        assert kind in ("data:image/svg+xml", "data:image/png")
        assert b"<script>alert" not in base64.b64decode(content)
    assert [value for name, value in page.attributes if name == "content" and "default-src 'none'" in value]
    assert not re.search(r"https?://(?!www\.w3\.org)", re.sub(r"base64,[^\"]+", "", text))


def test_the_same_runs_give_the_same_bytes(runs: list[Path], tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        assert bench("report", *runs[:2], "-o", tmp_path / name) == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_records_without_tables_and_what_does_not_compare(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = runs[0] / "record.json"
    assert bench("report", record, "-o", tmp_path / "a.html", "--label", "one") == 0
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert page.rows[1][0] == "one"
    assert ("alt", "by-severity") in page.attributes
    assert ("alt", "reliability") not in page.attributes  # which needs tables
    old = json.loads(record.read_text()) | {"jackknife": {}, "intervals": {}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert bench("report", runs[1], tmp_path / "old.json", "-o", tmp_path / "b.html") == 0
    assert "The runs are not compared: " in (tmp_path / "b.html").read_text(encoding="utf-8")
    other = json.loads(record.read_text())
    other["seed"] = 1
    (tmp_path / "other.json").write_text(json.dumps(other))
    assert bench("report", runs[1], tmp_path / "other.json", "-o", tmp_path / "c.html") == 2
    assert "does not compare" in capsys.readouterr().err
    assert not (tmp_path / "c.html").exists()

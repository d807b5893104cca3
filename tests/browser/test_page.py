"""The leaderboard's page in a real browser: by mouse, by keyboard, on a phone, in the dark, without a script."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from browser.visits import DESKTOP, PHONE, Visit, luminance
from leaderboard_records import around, fields, write
from leaderboard_records import group as listed
from stressbench import registry
from stressbench.leaderboard import site
from stressbench.leaderboard.build import build
from stressbench.leaderboard.ranking import Entry, Group, groups
from stressbench.leaderboard.records import add
from stressbench.record import Record

OWN = "own number"
CURVES = {"dropped": {1: 0.34, 2: 0.3, 5: 0.2}, "wrap:tiny,rate=0.1": {1: 0.4, 5: 0.22, 10: 0.1}}
ERRORS = {"best": 0.15, "also-middle": 0.25, "middle": 0.25, "worst": 0.5}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard of two datasets, with ties, curves and one model that is not ranked by its first metric."""
    folder = tmp_path_factory.mktemp("board")
    root, source = folder / "leaderboard", folder / "record.json"
    for spec, error in ERRORS.items():
        add(write(source, spec, error, model={"parameters": int(1e6 * error)}), root, replace=False)
    for spec, curve in CURVES.items():
        add(write(source, spec, curve=curve), root, replace=False)
    for spec, error in (("alone", 0.3), ("other", 0.4)):
        add(write(source, spec, error, dataset={"name": "circles"}), root, replace=False)
    add(write(source, "few", 0.3, dataset={"name": "triangles", "n": 20}), root, replace=False)
    build(root)
    return root


@pytest.fixture
def visit(browser: Browser, root: Path) -> Iterator[Visit]:
    with Visit(browser, root / "index.html") as visit:
        yield visit
        assert visit.said == []
        assert len(visit.asked) == 1


def shown(group: Group) -> str:
    return site.pages([group])["index.html"]


RANKED = ["wrap:tiny,rate=0.1", "best", "dropped", "also-middle", "middle", "worst"]


def test_it_opens_with_the_best_table(visit: Visit) -> None:
    assert visit.page.locator("h1").inner_text() == "corruption on squares"
    assert visit.models() == RANKED
    assert visit.column("rank") == ["1", "2", "3", "4", "4", "6"]
    assert visit.column("mean_error") == ["10.0", "15.0", "20.0", "25.0", "25.0", "50.0"]
    assert visit.column("draws") == ["10", "1", "5", "1", "1", "1"]
    assert visit.column("evidence") == ["self-reported"] * 6
    assert visit.column("kind")[:3] == ["wrap", "deterministic", "stochastic"]
    (head,) = (text for text in visit.table().locator("thead th").all_inner_texts() if "mean_nll" in text)
    assert "↓" in head
    assert "nats" in head


def test_the_contents_lead_to_every_table_and_fold_those_that_rank_nothing(visit: Visit) -> None:
    contents = visit.page.get_by_role("navigation", name="Contents")
    assert contents.locator("[aria-current]").inner_text().split() == ["corruption", "6", "results"]
    folded = contents.get_by_text("1 table that ranks nothing: fewer than 100 images, or no two models")
    expect(contents.get_by_text("corruption on triangles")).to_be_hidden()
    folded.click()
    contents.get_by_text("corruption on triangles").click()
    assert visit.models() == ["few"]
    assert "This table ranks nothing" in visit.page.inner_text("main")
    visit.page.get_by_role("navigation", name="Contents").get_by_role("link", name="corruption 2 results").click()
    assert visit.page.locator("h1").inner_text() == "corruption on circles"
    assert visit.models() == ["alone", "other"]
    visit.asked.clear()
    visit.page.get_by_role("link", name="stressbench leaderboard").click()
    assert visit.models() == RANKED


def test_a_click_on_a_columns_name_sorts_by_it(visit: Visit) -> None:
    table = visit.table()
    head = table.locator("thead th", has_text="model")
    button = table.get_by_role("button", name="model", exact=True)
    button.click()
    assert visit.models() == sorted(RANKED)
    expect(head).to_have_attribute("aria-sort", "ascending")
    button.click()
    assert visit.models() == sorted(RANKED, reverse=True)
    expect(head).to_have_attribute("aria-sort", "descending")
    assert table.locator("[aria-sort]").count() == 1
    table.get_by_role("button", name="mean_error", exact=True).click()
    errors = [float(text) for text in visit.column("mean_error")]
    assert errors == sorted(errors)  # lower is better, so the first click has the lowest first
    parameters = table.get_by_role("button", name="parameters")
    parameters.click()
    parameters.click()
    numbers = [int(text.replace(",", "")) for text in visit.column("parameters")]
    assert numbers == sorted(numbers, reverse=True)  # as numbers: 1,000 is above 12
    table.get_by_role("button", name="rank").click()
    assert visit.column("rank") == ["1", "2", "3", "4", "4", "6"]


def test_any_metric_ranks(visit: Visit) -> None:
    page = visit.page
    page.get_by_label("Rank by").select_option("mean_nll")
    values = [float(text) for text in visit.column("mean_nll")]
    assert values == sorted(values)
    assert visit.column("rank")[0] == "1"
    assert "ranked by mean_nll, lower is better" in visit.table().locator("caption").inner_text()
    ranks = dict(zip(visit.models(), visit.column("rank"), strict=True))
    visit.table().get_by_role("button", name="model", exact=True).click()
    assert dict(zip(visit.models(), visit.column("rank"), strict=True)) == ranks  # they stay those by mean_nll


def test_the_keyboard_is_enough(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the results"
    page.keyboard.press("Enter")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.locator(":focus").inner_text().startswith("model"):
            break
    focused = page.locator(":focus")
    assert focused.evaluate("element => element.tagName") == "BUTTON"
    assert focused.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    page.keyboard.press("Space")
    expect(page.locator("th[aria-sort=ascending]", has_text="model").first).to_be_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.locator(":focus").get_attribute("aria-label") == "Definition of mean_nll":
            break
    page.keyboard.press("Enter")
    expect(page.locator("[popover]:popover-open")).to_contain_text("−log of the true class's probability")
    page.keyboard.press("Escape")
    assert page.locator("[popover]:popover-open").count() == 0


def test_the_filters_leave_what_was_asked_for(visit: Visit) -> None:
    page, status = visit.page, visit.page.get_by_role("status")
    expect(status).to_have_text("6 of 6 results")
    page.get_by_label("Kind of model").select_option("stochastic")
    assert visit.models() == ["dropped"]
    page.get_by_label("Kind of model").select_option("wrap")
    assert visit.models() == ["wrap:tiny,rate=0.1"]
    page.get_by_role("button", name="Reset").click()
    expect(status).to_have_text("6 of 6 results")
    page.get_by_label("Model", exact=True).fill("MIDDLE")
    assert visit.models() == ["also-middle", "middle"]
    assert visit.column("rank") == ["4", "4"]  # ranks are those among all
    expect(status).to_have_text("2 of 6 results")
    page.get_by_label("Model", exact=True).fill("no such model")
    expect(status).to_have_text("0 of 6 results")
    page.get_by_role("button", name="Reset").click()
    assert visit.models() == RANKED


def test_columns_can_be_chosen(visit: Visit) -> None:
    page = visit.page
    evidence = visit.table().locator("[data-key=evidence]")
    expect(evidence).to_be_visible()
    expect(visit.table().locator("[data-key=date]")).to_be_hidden()
    page.get_by_role("button", name="Columns").click()
    page.get_by_label("evidence", exact=True).uncheck()
    page.get_by_label("date", exact=True).check()
    expect(evidence).to_be_hidden()
    expect(visit.table().locator("tbody td", has_text="self-reported").first).to_be_hidden()
    expect(visit.table().locator("tbody td", has_text="2026-01-02").first).to_be_visible()


def test_every_view_has_an_address(visit: Visit, browser: Browser) -> None:
    page = visit.page
    page.get_by_label("Rank by").select_option("mean_nll")
    visit.table().get_by_role("button", name="model", exact=True).click()
    visit.table().get_by_role("button", name="model", exact=True).click()
    page.get_by_label("Kind of model").select_option("deterministic")
    page.get_by_label("Model", exact=True).fill("mid")
    page.get_by_role("button", name="Columns").click()
    page.get_by_label("kind", exact=True).uncheck()
    page.keyboard.press("Escape")
    page.get_by_text("Scatter: any column").click()
    page.locator("[name=x]").select_option("parameters")
    link = page.get_by_role("link", name="Link to this view").evaluate("element => element.href")
    assert link == page.url
    other = browser.new_page()
    other.goto(link)
    for place in ("#board tbody", "#status", "caption"):
        assert other.inner_text(place) == page.inner_text(place)
    assert other.get_by_label("Kind of model").input_value() == "deterministic"
    expect(other.locator("#board [data-key=kind]")).to_be_hidden()
    expect(other.get_by_role("img", name="against parameters, 2 results")).to_be_visible()
    # Nonsense in an address is not followed.
    other.goto(link.partition("#")[0] + "#sort=luck&rank=%3Cb%3E&columns=a,b&page=-9&kind=%22&x=1")
    assert other.inner_text("#status") == "0 of 6 results"
    other.close()


@pytest.mark.parametrize("kind", ["CSV", "JSON"])
def test_what_is_shown_can_be_had_as_a_file(kind: str, visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    page.get_by_label("Model", exact=True).fill("middle")
    with page.expect_download() as waiting:
        page.get_by_role("button", name=kind).click()
    waiting.value.save_as(tmp_path / "file")
    text = (tmp_path / "file").read_text()
    rows = [*csv.DictReader(text.splitlines())] if kind == "CSV" else json.loads(text)["results"]
    assert [row["model"] for row in rows] == ["also-middle", "middle"]
    assert [float(row["mean_error [%]"]) for row in rows] == [25, 25]
    assert "date" not in rows[0]  # a column that is not shown


def test_the_scatter_has_a_point_for_each_result_and_names_it(visit: Visit) -> None:
    page = visit.page
    page.get_by_text("Scatter: any column").click()
    page.locator("[name=x]").select_option("parameters")
    page.locator("[name=y]").select_option("mean_error")
    picture = page.get_by_role("img", name="mean_error (%) against parameters, 6 results")
    assert picture.locator("a").count() == 6
    point = page.get_by_label("worst: parameters 500,000, mean_error (%) 50.0")
    other = page.get_by_label("best: parameters 150,000, mean_error (%) 15.0")
    for more, axis in ((1, "cx"), (-1, "cy")):  # worse is further right and further up
        places = [float(one.locator("circle").get_attribute(axis) or "nan") for one in (other, point)]
        assert more * (places[1] - places[0]) > 0
    point.focus()
    assert (page.locator("#pointed").text_content() or "").startswith("worst: parameters 500,000")
    assert point.get_attribute("href").startswith("models/worst.html")


def test_at_equal_cost_the_curves_rank(visit: Visit, root: Path) -> None:
    page = visit.page
    draws = page.get_by_role("navigation", name="Number of draws")
    assert draws.get_by_role("link").all_inner_texts() == [OWN, *(f"equal: {n}" for n in (1, 2, 5, 10))]
    page.get_by_label("Rank by").select_option("mean_nll")
    page.get_by_label("Rank by").select_option("mean_error")
    draws.get_by_text("equal: 5").click()
    assert visit.models() == ["best", "dropped", "wrap:tiny,rate=0.1", "also-middle", "middle", "worst"]
    assert visit.column("mean_error") == ["15.0", "20.0", "22.0", "25.0", "25.0", "50.0"]
    assert visit.column("draws") == ["1", "5", "5", "1", "1", "1"]
    draws.get_by_text("equal: 2").click()
    assert "wrap:tiny,rate=0.1" not in visit.models()  # nobody knows it at two draws
    assert visit.column("mean_error")[visit.models().index("dropped")] == "30.0"
    # By hand: at one draw, one of them ties with nothing.
    draws.get_by_text("equal: 1", exact=True).click()
    assert visit.column("rank") == ["1", "2", "2", "4", "5", "6"]
    (group,) = (group for group in groups(root) if group.dataset == "squares")
    assert [ranked.entry.record.model.spec for ranked in group.ranked(1)] == visit.models()
    visit.asked[1:] = []


def test_the_unknown_is_last_whichever_way(browser: Browser, root: Path, tmp_path: Path) -> None:
    (group,) = (group for group in groups(root) if group.dataset == "squares")
    unknown = {**group.entries[0].record.metrics, "mean_nll": None}
    first = replace(group.entries[0], record=group.entries[0].record.model_copy(update={"metrics": unknown}))
    path = tmp_path / "index.html"
    path.write_text(shown(replace(group, entries=[first, *group.entries[1:]])))
    with Visit(browser, path) as visit:
        for _ in range(2):
            visit.table().get_by_role("button", name="mean_nll", exact=True).click()
            assert visit.column("mean_nll")[-1] == "–"


def test_models_that_are_not_told_apart_share_a_rank(browser: Browser, tmp_path: Path) -> None:
    """By hand: the differences of b and a, and of c and b, are within their intervals, and that of c and a is not."""
    numbers = {"a": 0.20, "b": 0.21, "c": 0.22}
    alike = np.tile([1.0, -1.0], 10)
    patterns = {"a": alike, "b": np.tile([1.0, 1.0, -1.0, -1.0], 5), "c": alike}  # a and c rise and fall together
    records = []
    for spec, error in numbers.items():
        record = around(spec, error)
        record["jackknife"]["mean_error"]["1"] = (error + 0.002 * patterns[spec]).tolist()
        records.append(Record.model_validate(record))
    path = tmp_path / "index.html"
    path.write_text(shown(listed(registry.suite("corruption"), records)))
    with Visit(browser, path) as visit:
        cells = visit.table().locator("tbody tr > :first-child").all_inner_texts()
        assert [cell.split("\n") for cell in cells] == [["1", "1–2"], ["1", "1–3"], ["2", "2–3"]]
        (text, ends) = visit.table().locator("tbody tr").first.locator("td").nth(2).inner_text().split("\n")
        assert text == "20.0"
        assert ends == "17.0–23.0"


def test_curves_are_drawn_where_there_are_some(visit: Visit) -> None:
    figure = visit.page.get_by_role("figure", name="By number of draws")
    figure.scroll_into_view_if_needed()
    assert figure.get_by_role("img", name="mean_error against the number of draws (lower is better)").count() == 1
    assert [text.strip() for text in figure.locator("li").all_inner_texts()] == ["wrap:tiny,rate=0.1", "dropped"]
    # Lower is further down, and more draws further right.
    points = figure.locator("g.line-0 polyline").get_attribute("points")
    assert points is not None
    xs, ys = zip(*(map(float, point.split(",")) for point in points.split()), strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys)
    assert visit.page.get_by_role("figure", name="By severity").count() == 1


def test_without_javascript_it_is_plain_tables(browser: Browser, root: Path) -> None:
    with Visit(browser, root / "index.html", java_script_enabled=False) as visit:
        page = visit.page
        expect(page.locator("form").first).to_be_hidden()
        assert page.locator("#board").locator("tbody tr:visible th > a").all_inner_texts() == RANKED
        expect(page.locator("#board [data-key=date]")).to_be_visible()
        page.get_by_role("button", name="Definition of mean_nll").click()
        expect(page.locator("[popover]:popover-open")).to_contain_text("mean_nll")
        page.get_by_role("link", name="equal: 5").click()
        assert page.locator("#board tbody th > a").first.inner_text() == "best"
        assert visit.said == []


def test_without_javascript_a_long_table_is_whole(browser: Browser, tmp_path: Path) -> None:
    records = [Record.model_validate(fields(f"net{i}", 0.001 * i)) for i in range(1, 60)]
    path = tmp_path / "index.html"
    path.write_text(shown(listed(registry.suite("corruption"), records)))
    with Visit(browser, path, java_script_enabled=False) as visit:
        assert visit.page.locator("tbody th > a").all_inner_texts() == [f"net{i}" for i in range(1, 60)]
    with Visit(browser, path) as visit:
        assert visit.models() == [f"net{i}" for i in range(1, 51)]
        visit.page.get_by_label("Model", exact=True).fill("net59")
        assert visit.models() == ["net59"]


def test_each_model_has_a_page_that_leads_to_its_record(visit: Visit, root: Path) -> None:
    page = visit.page
    links = [link.get_attribute("href") or "" for link in visit.table().locator("tbody th a").all()]
    assert len(links) == 6
    for link, spec in zip(links, RANKED, strict=True):
        path, _, anchor = link.partition("#")
        page.goto((root / unquote(path)).as_uri() + f"#{anchor}")
        assert page.locator("h1").inner_text() == spec
        assert page.locator("h2:target").inner_text() == "corruption on squares"
        record = page.get_by_role("link", name="Its record").get_attribute("href") or ""
        assert re.fullmatch(r"\.\./records/squares/corruption/[A-Za-z0-9%.=-]+\.json", record)
        assert (root / "models" / unquote(record)).is_file()
    assert "by mean_error" in page.inner_text("section")
    assert "bench run --suite stressbench/corruption --model worst --dataset squares --limit 1000" in page.inner_text(
        "section"
    )
    assert "@misc{" in page.inner_text("section")
    page.get_by_role("link", name="The table").click()
    assert visit.models() == RANKED
    page.get_by_role("link", name="all, by name").click()
    assert page.locator("main li > a").all_inner_texts() == sorted([*RANKED, "alone", "few", "other"])
    visit.asked[1:] = []


def test_roles_and_names_are_there_for_a_screen_reader(visit: Visit) -> None:
    page = visit.page
    name = re.compile("Each model with its own number of draws; ranked by mean_error, lower is better")
    assert page.get_by_role("table", name=name).count() == 1
    assert page.get_by_role("heading", level=1).count() == 1
    table = visit.table()
    assert table.locator("thead th:not([scope=col])").count() == 0
    assert table.locator("tbody th:not([scope=row])").count() == 0
    assert table.get_by_role("columnheader", name=re.compile("mean_nll.*, lower is better, in nats")).count() == 1
    for control in page.locator("#controls select, #controls input, #scatter select").all():
        assert control.evaluate("element => element.labels.length") == 1
    for button in page.get_by_role("button").all():
        assert button.evaluate("element => element.ariaLabel || element.innerText || element.textContent")


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (320, 568)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(size: tuple[int, int], scheme: Any, browser: Browser, root: Path) -> None:
    with Visit(browser, root / "index.html", size, color_scheme=scheme) as visit:
        page = visit.page
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (luminance(background) > 0.5) == (scheme == "light")
        for place in (
            "h1",
            ".about",
            "caption",
            "td",
            "tbody th a",
            "thead th button",
            "#scatter > summary",
            "footer p",
            "nav a",
            "#status",
        ):
            seen = page.locator(f"{place}:visible").first
            colour = seen.evaluate("element => getComputedStyle(element).color")
            low, high = sorted((luminance(colour), luminance(background)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, place  # WCAG 2.2, 1.4.3
        # The model stays in sight when the table is moved to its last column.
        scroll = page.locator(".scroll", has=page.locator("#board"))
        scroll.evaluate("element => { element.scrollLeft = element.scrollWidth }")
        box = scroll.locator("tbody th").first.bounding_box()
        assert box is not None
        assert 0 <= box["x"] < size[0] / 2
        assert visit.said == []


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>",
     '" onmouseover="alert(1)', "a|b", "{{ 7 * 7 }}", "</style><style>*{display:none}</style>", "javascript:alert(1)"],
)  # fmt: skip
def test_markup_that_slipped_through_the_check_is_text(name: str, browser: Browser, tmp_path: Path) -> None:
    suite = registry.suite("corruption")
    records = [Record.model_validate(fields(spec, curve={1: 0.3, 5: 0.2})) for spec in (name, "tiny")]
    records[0] = records[0].model_copy(update={"dataset": records[0].dataset.model_copy(update={"name": name})})
    entries = [Entry(Path("records", f"{i}.json"), record, None) for i, record in enumerate(records)]
    for place, text in site.pages([Group(suite, name, entries)]).items():
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    with Visit(browser, tmp_path / "index.html") as visit:
        page = visit.page
        assert name in visit.models()
        assert page.locator("h1").inner_text() == f"corruption on {name}"
        for element in page.locator("tbody th:visible").all():
            element.hover()
        page.get_by_text("Scatter: any column").click()
        assert page.locator("script").count() == 1
        assert page.locator("img").count() == 0
        page.locator("#board tbody th a", has_text=name).click()
        assert page.locator("h1").inner_text() == name
        assert page.locator("script, img").count() == 0
        assert visit.said == []


def test_a_script_or_style_that_got_in_stays_dead(browser: Browser, root: Path, tmp_path: Path) -> None:
    text = (root / "index.html").read_text()
    path = tmp_path / "index.html"
    path.write_text(text.replace("</main>", "<script>document.title = 'mine'</script><img src='http://127.0.0.1:9/'>"
                                 "<style>h1 { display: none }</style></main>"))  # fmt: skip
    with Visit(browser, path) as visit:
        assert visit.page.title() == "stressbench leaderboard"
        expect(visit.page.locator("h1")).to_be_visible()
        assert visit.blocked == {"http://127.0.0.1:9/": "csp"}
        assert any("Content Security Policy" in line for line in visit.said)

"""The leaderboard's page in a real browser: by mouse, by keyboard, on a phone, in the dark, without a script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser, expect

from browser.visits import DESKTOP, PHONE, Visit, luminance
from leaderboard_records import fields, write
from stressbench import registry
from stressbench.leaderboard import html
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
    add(write(source, "alone", 0.3, dataset={"name": "circles"}), root, replace=False)
    build(root)
    return root


@pytest.fixture
def visit(browser: Browser, root: Path) -> Iterator[Visit]:
    with Visit(browser, root / "index.html") as visit:
        yield visit
        assert visit.said == []
        assert visit.asked == [visit.address]


RANKED = ["wrap:tiny,rate=0.1", "best", "dropped", "also-middle", "middle", "worst"]


def test_the_best_is_first_and_ties_share_a_rank(visit: Visit) -> None:
    assert visit.models() == RANKED
    assert visit.column("#") == ["1", "2", "3", "4", "4", "6"]
    assert visit.column("mean_error") == ["10.0", "15.0", "20.0", "25.0", "25.0", "50.0"]
    assert visit.column("draws") == ["10", "1", "5", "1", "1", "1"]
    assert visit.column("evidence") == ["self-reported"] * 6
    assert visit.column("kind")[:3] == ["wrap", "deterministic", "stochastic"]
    (head,) = (text for text in visit.table().locator("thead th").all_inner_texts() if "mean_nll" in text)
    assert "↓" in head
    assert "nats" in head


def test_a_click_on_a_columns_name_sorts_by_it(visit: Visit) -> None:
    table = visit.table()
    head = table.locator("thead th", has_text="model")
    button = table.get_by_role("button", name="model")
    button.click()
    assert visit.models() == sorted(RANKED)
    expect(head).to_have_attribute("aria-sort", "ascending")
    button.click()
    assert visit.models() == sorted(RANKED, reverse=True)
    expect(head).to_have_attribute("aria-sort", "descending")
    assert table.locator("[aria-sort]").count() == 1
    table.get_by_role("button", name="mean_error").click()
    errors = [float(text) for text in visit.column("mean_error")]
    assert errors == sorted(errors)  # lower is better, so the first click has the lowest first
    parameters = table.get_by_role("button", name="parameters")
    parameters.click()
    parameters.click()
    numbers = [int(text.replace(",", "")) for text in visit.column("parameters")]
    assert numbers == sorted(numbers, reverse=True)  # as numbers: 1,000 is above 12
    table.get_by_role("button", name="rank").click()
    assert visit.column("#") == ["1", "2", "3", "4", "4", "6"]


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


def test_the_filters_leave_what_was_asked_for(visit: Visit) -> None:
    page, status = visit.page, visit.page.get_by_role("status")
    expect(status).to_have_text("7 of 7 results")
    page.get_by_label("Dataset").select_option("circles")
    expect(status).to_have_text("1 of 7 results")
    assert visit.models("circles") == ["alone"]
    assert visit.table().count() == 0
    page.get_by_label("Dataset").select_option("squares")
    page.get_by_label("Kind of model").select_option("stochastic")
    assert visit.models() == ["dropped"]
    page.get_by_label("Kind of model").select_option("wrap")
    assert visit.models() == ["wrap:tiny,rate=0.1"]
    page.get_by_role("button", name="Reset").click()
    expect(status).to_have_text("7 of 7 results")
    page.get_by_label("Model", exact=True).fill("MIDDLE")
    assert visit.models() == ["also-middle", "middle"]
    assert visit.column("#") == ["4", "4"]  # ranks are those among all
    expect(status).to_have_text("2 of 7 results")
    page.get_by_label("Model", exact=True).fill("no such model")
    expect(status).to_have_text("0 of 7 results")
    assert page.locator("table:visible").count() == 0
    page.get_by_role("button", name="Reset").click()
    page.get_by_label("Suite").select_option("corruption")
    expect(status).to_have_text("7 of 7 results")


def test_at_equal_cost_the_curves_rank(visit: Visit, root: Path) -> None:
    draws = visit.page.get_by_role("combobox", name="Draws")
    assert draws.locator("option").all_inner_texts() == [OWN, *(f"equal: {n}" for n in (1, 2, 5, 10))]
    draws.select_option("5")
    assert visit.models() == ["best", "dropped", "wrap:tiny,rate=0.1", "also-middle", "middle", "worst"]
    assert visit.column("mean_error") == ["15.0", "20.0", "22.0", "25.0", "25.0", "50.0"]
    assert visit.column("draws") == ["1", "5", "5", "1", "1", "1"]
    assert visit.models("circles") == ["alone"]  # what is deterministic is the same at any number
    draws.select_option("2")
    assert "wrap:tiny,rate=0.1" not in visit.models()  # nobody knows it at two draws
    assert visit.column("mean_error")[visit.models().index("dropped")] == "30.0"
    # By hand: at one draw, one of them ties with nothing.
    draws.select_option("1")
    assert visit.column("#") == ["1", "2", "2", "4", "5", "6"]
    (group,) = (group for group in groups(root) if group.dataset == "squares")
    assert [ranked.entry.record.model.spec for ranked in group.ranked(1)] == visit.models()


def test_the_unknown_is_last_whichever_way(browser: Browser, root: Path, tmp_path: Path) -> None:
    (group,) = (group for group in groups(root) if group.dataset == "squares")
    unknown = {**group.entries[0].record.metrics, "mean_nll": None}
    first = replace(group.entries[0], record=group.entries[0].record.model_copy(update={"metrics": unknown}))
    path = tmp_path / "index.html"
    path.write_text(html.render([replace(group, entries=[first, *group.entries[1:]])]))
    with Visit(browser, path) as visit:
        for _ in range(2):
            visit.table().get_by_role("button", name="mean_nll").click()
            assert visit.column("mean_nll")[-1] == "–"


def test_intervals_are_shown_where_a_record_has_them(browser: Browser, root: Path, tmp_path: Path) -> None:
    (group,) = (group for group in groups(root) if group.dataset == "circles")
    entry = group.entries[0]
    record = entry.record.model_copy(update={"intervals": {"mean_error": {"1": (0.281, 0.319)}}})
    path = tmp_path / "index.html"
    path.write_text(html.render([replace(group, entries=[replace(entry, record=record)])]))
    with Visit(browser, path) as visit:
        (cell,) = visit.column("mean_error", "circles")
        assert cell.split("\n")[0] == "30.0"
        assert "28.1 – 31.9" in cell


def test_curves_are_drawn_where_there_are_some(visit: Visit) -> None:
    figure = visit.page.locator(".group[data-dataset=squares]").get_by_role("figure", name="By number of draws")
    assert figure.get_by_role("img", name="mean_error against the number of draws (lower is better)").count() == 1
    assert [text.strip() for text in figure.locator("li").all_inner_texts()] == ["wrap:tiny,rate=0.1", "dropped"]
    # Lower is further down, and more draws further right.
    points = figure.locator("g.line-0 polyline").get_attribute("points")
    assert points is not None
    xs, ys = zip(*(map(float, point.split(",")) for point in points.split()), strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys)
    circles = visit.page.locator(".group[data-dataset=circles]")
    assert circles.get_by_role("figure", name="By severity").count() == 1
    assert circles.get_by_role("figure", name="By number of draws").count() == 0


def test_without_javascript_it_is_plain_tables(browser: Browser, root: Path) -> None:
    with Visit(browser, root / "index.html", java_script_enabled=False) as visit:
        page = visit.page
        expect(page.locator("form")).to_be_hidden()
        assert page.get_by_role("button").count() == 0
        tables = page.get_by_role("table")
        assert tables.count() == 1 + 5  # circles; squares as they are, and at 1, 2, 5 and 10 draws
        assert tables.nth(1).locator("tbody tr:visible th").all_inner_texts() == RANKED
        assert visit.said == []
        assert visit.asked == [visit.address]


def test_each_model_leads_to_its_record(visit: Visit, root: Path) -> None:
    links = visit.page.locator("tbody th a:visible")
    assert links.count() == 7
    for i in range(7):
        link = links.nth(i).get_attribute("href")
        assert link is not None
        assert re.fullmatch(r"records/[a-z]+/corruption/[A-Za-z0-9%.=-]+\.json", link)
        assert (root / unquote(link)).is_file()


def test_roles_and_names_are_there_for_a_screen_reader(visit: Visit) -> None:
    page = visit.page
    name = re.compile("Each model with its own number of draws; ranked by mean_error, lower is better")
    assert page.get_by_role("table", name=name).count() == 2
    assert page.get_by_role("region", name="corruption on squares", exact=True).count() == 1
    assert page.get_by_role("heading", level=1).count() == 1
    table = visit.table()
    assert table.locator("thead th:not([scope=col])").count() == 0
    assert table.locator("tbody th:not([scope=row])").count() == 0
    assert table.get_by_role("columnheader", name=re.compile("mean_nll.*, lower is better, in nats")).count() == 1
    for control in page.locator("form select, form input").all():
        assert control.evaluate("element => element.labels.length") == 1


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
            "label",
            "figcaption",
            "footer p",
        ):
            seen = page.locator(f"{place}:visible").first
            colour = seen.evaluate("element => getComputedStyle(element).color")
            low, high = sorted((luminance(colour), luminance(background)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, place  # WCAG 2.2, 1.4.3
        # The model stays in sight when the table is moved to its last column.
        scroll = page.locator(".group[data-dataset=squares] .scroll:visible")
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
    path = tmp_path / "index.html"
    path.write_text(html.render([Group(suite, name, entries)]))
    with Visit(browser, path) as visit:
        page = visit.page
        assert name in page.locator("tbody th:visible").all_inner_texts()
        assert page.locator("h2").inner_text() == f"corruption on {name}"
        for element in page.locator("tbody th:visible").all():
            element.hover()
        assert page.locator("script").count() == 1
        assert page.locator("img").count() == 0
        assert visit.said == []
        assert visit.asked == [visit.address]


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

"""The page's figures in a real browser: that they are seen, told and read, whatever a record says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from browser.visits import PHONE, Visit, luminance
from leaderboard_records import group, stressed
from stressbench import registry
from stressbench.contracts import Metrics
from stressbench.leaderboard import html
from stressbench.leaderboard.ranking import Group

NAMES = ["tiny", "wrap:tiny,rate=0.1", *(f"a-network-with-a-long-name,width={k}" for k in range(8))]
CHARTS = [
    "error against severity (lower is better)",
    "nll against severity (nats, lower is better)",
    "ece against severity (lower is better)",
    "accuracy against frequency: noise (higher is better)",
    "accuracy against frequency: fgsm (higher is better)",
    "accuracy against ε: fgsm, linf (higher is better)",
    "accuracy against ε: pgd, linf (higher is better)",
]


def made(suite_name: str, models: int) -> Group:
    """A suite's own conditions; the models are one worse than the other, and all worse from condition to condition."""
    suite = registry.suite(suite_name)
    records = []
    for i, name in enumerate(NAMES[:models]):
        rows = []
        for k, condition in enumerate(suite.conditions()):
            worse = 0.05 * i + k / len(suite.conditions()) / 2
            metrics: Metrics = {"error": worse, "nll": 3 * worse, "ece": worse / 2, "accuracy": 1 - worse}
            rows.append((condition, metrics))
        records.append(stressed(suite, name, 0.1 + 0.01 * i, rows))
    return group(suite, records)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("figures") / "index.html"
    path.write_text(html.render([made("corruption", 10), made("frequency", 3), made("adversarial", 3)]))
    return path


@pytest.fixture
def visit(browser: Browser, page: Path) -> Iterator[Visit]:
    with Visit(browser, page) as visit:
        yield visit
        assert visit.said == []
        assert visit.asked == [visit.address]


def test_each_figure_has_its_charts_by_name(visit: Visit) -> None:
    images = visit.page.get_by_role("img")
    assert images.count() == len(CHARTS)
    for name in CHARTS:
        expect(visit.page.get_by_role("img", name=name, exact=True)).to_be_visible()
    for title, charts, models in (("By severity", 3, 8), ("By frequency", 2, 3), ("By budget", 2, 3)):
        figure = visit.page.get_by_role("figure", name=title)
        assert figure.get_by_role("img").count() == charts
        assert figure.locator(".models li").count() == models
        assert figure.get_by_role("img").first.locator("g.line").count() == models
        for line in figure.get_by_role("img").first.locator("g.line").all():
            assert line.locator("polyline").evaluate("element => getComputedStyle(element).strokeWidth") == "2px"
    assert "The best 8 are drawn; 2 more could be." in visit.page.get_by_role("figure", name="By severity").inner_text()
    # A model's line looks like what stands before its name.
    figure = visit.page.get_by_role("figure", name="By budget")
    for k in range(3):
        colours = {
            element.evaluate("element => getComputedStyle(element).stroke")
            for element in figure.locator(f".line-{k} polyline").all()
        }
        assert len(colours) == 1


def test_the_numbers_are_text_by_keyboard(visit: Visit) -> None:
    figure = visit.page.get_by_role("figure", name="By budget")
    assert figure.get_by_role("table").count() == 0
    figure.get_by_text("The numbers").focus()
    visit.page.keyboard.press("Enter")
    table = figure.get_by_role("table", name=CHARTS[-1])
    expect(table).to_be_visible()
    heads = table.get_by_role("columnheader").all_inner_texts()
    assert heads == ["model", "0", "1/255", "2/255", "4/255", "8/255"]
    row = table.get_by_role("row", name="wrap:tiny,rate=0.1")
    assert row.get_by_role("cell").all_inner_texts()[0] == "95.0 %"
    # These tables are no results: filters and sorting leave them alone.
    expect(visit.page.get_by_role("status")).to_have_text("16 of 16 results")
    assert table.get_by_role("button").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_heat_map_can_be_read(scheme: Any, browser: Browser, page: Path) -> None:
    with Visit(browser, page, color_scheme=scheme) as visit:
        summary = visit.page.get_by_text("error by corruption and severity: tiny, the best")
        summary.click()
        table = visit.page.get_by_role("table", name="error by corruption and severity: tiny, the best")
        assert table.get_by_role("row").count() == 16
        table.get_by_role("row", name="fog").hover()
        colours = table.locator("td.number").evaluate_all(
            "all => all.map(getComputedStyle).map((style) => [style.color, style.backgroundColor])"
        )
        assert len(colours) == 75
        for colour, back in colours:
            low, high = sorted((luminance(colour), luminance(back)))
            assert (high + 0.05) / (low + 0.05) >= 4.5
        assert len({back for _, back in colours}) == 8


@pytest.mark.parametrize("size", [PHONE, (320, 568), (1280, 900)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(size: tuple[int, int], scheme: Any, browser: Browser, page: Path) -> None:
    with Visit(browser, page, size, color_scheme=scheme) as visit:
        for details in visit.page.locator("details").all():
            details.evaluate("element => { element.open = true }")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        background = luminance(visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for image in visit.page.get_by_role("img").all():
            box, texts = image.evaluate(
                """element => {
                  const box = (one) => { const {left, right} = one.getBoundingClientRect(); return [left, right] };
                  return [box(element), [...element.querySelectorAll("text")].map(box)];
                }"""
            )
            assert 0 <= box[0] < box[1] <= size[0]
            assert len(texts) > 8
            assert all(box[0] <= left < right <= box[1] for left, right in texts)
            assert 13 * (box[1] - box[0]) / 400 >= 9  # the size of the letters as they are seen
            colour = image.locator("text").first.evaluate("element => getComputedStyle(element).fill")
            low, high = sorted((luminance(colour), background))
            assert (high + 0.05) / (low + 0.05) >= 4.5
        assert visit.said == []


def test_without_javascript_the_figures_are_there(browser: Browser, page: Path) -> None:
    with Visit(browser, page, java_script_enabled=False) as visit:
        assert visit.page.get_by_role("img").count() == len(CHARTS)
        visit.page.get_by_text("The numbers").first.click()
        expect(visit.page.get_by_role("table", name=CHARTS[0])).to_be_visible()


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</svg><style>*{display:none}</style>"]
)
def test_what_a_condition_says_is_text(name: str, browser: Browser, tmp_path: Path) -> None:
    corruption, adversarial = registry.suite("corruption"), registry.suite("adversarial")
    rows: list[Any] = [({"corruption": k, "severity": s}, {"error": 0.5}) for k in (name, "b") for s in (1, 2)]
    attacks: list[Any] = [({"attack": name, "norm": name, "eps": eps}, {"accuracy": 0.5}) for eps in (0.1, 0.2)]
    path = tmp_path / "index.html"
    groups = [
        group(corruption, [stressed(corruption, "tiny", 0.1, rows)]),
        group(adversarial, [stressed(adversarial, "tiny", 0.1, attacks)]),
    ]
    path.write_text(html.render(groups))
    with Visit(browser, path) as visit:
        assert visit.page.get_by_role("img").count() == 2
        expect(visit.page.get_by_role("img", name=f"accuracy against ε: {name}, {name}")).to_be_visible()
        expect(visit.page.locator("summary", has_text="error by corruption and severity")).to_be_visible()
        for details in visit.page.locator("details").all():
            details.evaluate("element => { element.open = true }")
        assert visit.page.get_by_role("rowheader", name=name, exact=True).is_visible()
        assert visit.page.locator("script").count() == 1
        assert visit.page.locator("style").count() == 1
        assert visit.page.locator("img").count() == 0
        assert visit.said == []
        assert visit.asked == [visit.address]

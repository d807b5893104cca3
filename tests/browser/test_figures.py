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
from stressbench.leaderboard import site
from stressbench.leaderboard.ranking import Group

NAMES = ["tiny", "wrap:tiny,rate=0.1", *(f"a-network-with-a-long-name,width={k}" for k in range(8))]
CHARTS = {
    "corruption": [
        "error against severity (lower is better)",
        "nll against severity (nats, lower is better)",
        "ece against severity (lower is better)",
    ],
    "frequency": [
        "accuracy against frequency: noise (higher is better)",
        "accuracy against frequency: fgsm (higher is better)",
    ],
    "adversarial": [
        "accuracy against ε: fgsm, linf (higher is better)",
        "accuracy against ε: pgd, linf (higher is better)",
    ],
}
TITLES = {"corruption": "By severity", "frequency": "By frequency", "adversarial": "By budget"}


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


MODELS = {"corruption": 10, "frequency": 3, "adversarial": 3}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page for each suite."""
    folder = tmp_path_factory.mktemp("figures")
    for suite, models in MODELS.items():
        (folder / f"{suite}.html").write_text(site.pages([made(suite, models)])["index.html"])
    return {suite: folder / f"{suite}.html" for suite in MODELS}


@pytest.fixture
def visit(browser: Browser, pages: dict[str, Path]) -> Iterator[Visit]:
    with Visit(browser, pages["adversarial"]) as visit:
        yield visit
        assert visit.said == []
        assert visit.asked == [visit.address]


@pytest.mark.parametrize("suite", MODELS)
def test_each_figure_has_its_charts_by_name(suite: str, browser: Browser, pages: dict[str, Path]) -> None:
    with Visit(browser, pages[suite]) as visit:
        look(suite, visit)
        assert visit.said == []


def look(suite: str, visit: Visit) -> None:
    figure = visit.page.get_by_role("figure", name=TITLES[suite])
    figure.scroll_into_view_if_needed()
    for name in CHARTS[suite]:
        expect(figure.get_by_role("img", name=name, exact=True)).to_be_visible()
    assert figure.get_by_role("img").count() == len(CHARTS[suite])
    drawn = min(MODELS[suite], 8)
    assert figure.locator(".models li").count() == drawn
    assert figure.get_by_role("img").first.locator("g.line").count() == drawn
    for line in figure.get_by_role("img").first.locator("g.line").all():
        assert line.locator("polyline").evaluate("element => getComputedStyle(element).strokeWidth") == "2px"
    assert ("The best 8 are drawn; 2 more could be." in figure.inner_text()) == (MODELS[suite] > 8)
    # A model's line looks like what stands before its name.
    for k in range(drawn):
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
    table = figure.get_by_role("table", name=CHARTS["adversarial"][-1])
    expect(table).to_be_visible()
    heads = table.get_by_role("columnheader").all_inner_texts()
    assert heads == ["model", "0", "1/255", "2/255", "4/255", "8/255"]
    row = table.get_by_role("row", name="wrap:tiny,rate=0.1")
    assert row.get_by_role("cell").all_inner_texts()[0] == "95.0 %"
    # These tables are no results: filters and sorting leave them alone.
    expect(visit.page.get_by_role("status")).to_have_text("3 of 3 results")
    assert table.get_by_role("button").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_heat_map_can_be_read(scheme: Any, browser: Browser, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["corruption"], color_scheme=scheme) as visit:
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
def test_it_fits_a_phone(size: tuple[int, int], scheme: Any, browser: Browser, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["adversarial"], size, color_scheme=scheme) as visit:
        for details in visit.page.locator("details").all():
            details.evaluate("element => { element.open = true }")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        background = luminance(visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for image in visit.page.locator("figure").get_by_role("img").all():
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


def test_without_javascript_the_figures_are_there(browser: Browser, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["frequency"], java_script_enabled=False) as visit:
        assert visit.page.get_by_role("img").count() == len(CHARTS["frequency"])
        visit.page.get_by_text("The numbers").first.click()
        expect(visit.page.get_by_role("table", name=CHARTS["frequency"][0])).to_be_visible()


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
    for made_of, picture in zip(groups, ("error against severity", f"accuracy against ε: {name}, {name}"), strict=True):
        path.write_text(site.pages([made_of])["index.html"])
        with Visit(browser, path) as visit:
            visit.page.locator("figure").scroll_into_view_if_needed()
            expect(visit.page.get_by_role("img", name=picture)).to_be_visible()
            for details in visit.page.locator("details").all():
                details.evaluate("element => { element.open = true }")
            if made_of.suite.name == "corruption":
                assert visit.page.get_by_role("rowheader", name=name, exact=True).is_visible()
            assert visit.page.locator("script").count() == 1
            assert visit.page.locator("style").count() == 1
            assert visit.page.locator("img").count() == 0
            assert visit.said == []
            assert visit.asked == [visit.address]

"""The page with 1,000 made-up results: how large it is, and how long a reader waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from browser.visits import Visit
from leaderboard_records import around
from stressbench import registry
from stressbench.leaderboard.ranking import Entry, Group
from stressbench.leaderboard.site import Site
from stressbench.record import Record

MANY = 1000
SIZES = ("1", "5", "10")
MOST_BYTES = 10**6
MOST_SECONDS = 0.2


def made_up() -> Group:
    """Results of one table, 400 of them with curves, whose numbers and jackknives differ."""
    generator = np.random.default_rng(0)
    base = Record.model_validate(around())
    entries = []
    for i in range(MANY):
        spec, stochastic = f"network{i}-with-a-long-name,width={i % 7}", i % 5 < 2
        sizes = SIZES if stochastic else ("1",)
        values = {name: value and value + generator.normal(0, 0.03) for name, value in base.metrics.items()}
        values["mCE"] = generator.uniform(0.5, 1)
        jackknife = {
            name: {size: None if value is None else list(value + generator.normal(0, 1e-3, 20)) for size in sizes}
            for name, value in values.items()
        }
        intervals = {
            name: {size: None if value is None else (value - 0.01, value + 0.01) for size in sizes}
            for name, value in values.items()
        }
        curves = {name: dict.fromkeys(SIZES, value) for name, value in values.items()} if stochastic else {}
        model = base.model.model_copy(update={"spec": spec, "stochastic": stochastic, "parameters": 1000 + 77 * i})
        update = {"model": model, "draws": int(sizes[-1]), "metrics": values, "curves": curves,
                  "intervals": intervals, "jackknife": jackknife}  # fmt: skip
        path = Path("records", "squares", "corruption", f"network{i}.json")
        entries.append(Entry(path, base.model_copy(update=update), None))
    return Group(registry.suite("corruption"), "squares", entries)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    group = made_up()
    path = tmp_path_factory.mktemp("many") / "index.html"
    path.write_text(Site([group]).table(group, None, ""))
    return path


@pytest.fixture(scope="module")
def visit(browser: Browser, page: Path) -> Iterator[Visit]:
    with Visit(browser, page) as visit:
        yield visit
        assert visit.said == []


def test_it_is_under_a_megabyte_and_whole(page: Path, visit: Visit) -> None:
    assert page.stat().st_size < MOST_BYTES
    assert visit.page.get_by_role("status").inner_text() == f"{MANY} of {MANY} results"
    assert visit.page.locator("#board tbody tr").count() == 50
    visit.page.get_by_role("button", name="worse").click()
    assert visit.page.locator("#pages span").inner_text() == "51–100 of 1000"


def worked(visit: Visit, act: Callable[[], object]) -> float:
    """Seconds that the page's thread computes until what was done is drawn: on an idle machine, what a reader waits."""
    chromium = visit.page.context.new_cdp_session(visit.page)
    chromium.send("Performance.enable", {"timeDomain": "threadTicks"})

    def now() -> float:
        given = chromium.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in given if one["name"] == "TaskDuration"))

    before = now()
    act()
    visit.page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return now() - before


def test_it_opens_at_once(browser: Browser, page: Path) -> None:
    """Beyond what an empty page takes."""
    empty = page.with_name("empty.html")
    empty.write_text("<!DOCTYPE html><title>empty</title>")
    waited = {}
    for path in (empty, page):
        with Visit(browser, path) as visit:
            waited[path] = min(worked(visit, visit.page.reload) for _ in range(5))
    assert waited[page] - waited[empty] < MOST_SECONDS, waited


# Each action, as a script that does it.
ACTIONS = {
    "sort": "document.querySelector('[data-key=mean_nll] .sort').click()",
    "turn round": "document.querySelector('#board [aria-sort] .sort').click()",
    "sort by name": "document.querySelector('[data-key=model] .sort').click()",
    "kind": "const one = document.querySelector('[name=kind]'); one.value = 'stochastic';"
    "one.dispatchEvent(new Event('input', { bubbles: true }))",
    "find": "const one = document.querySelector('[name=model]'); one.value = '99';"
    "one.dispatchEvent(new Event('input', { bubbles: true }))",
    "reset": "document.querySelector('[type=reset]').click()",
    "columns": "for (const one of document.querySelectorAll('[type=checkbox]')) one.checked = true;"
    "document.querySelector('[type=checkbox]').dispatchEvent(new Event('input', { bubbles: true }))",
    "page": "document.querySelector('#pages button:last-child').click()",
    "scatter": "document.getElementById('scatter').open = true",
    "another axis": "const one = document.querySelector('[name=x]'); one.value = 'parameters';"
    "one.dispatchEvent(new Event('change', { bubbles: true }))",
}


def test_each_action_is_done_at_once(browser: Browser, page: Path) -> None:
    waited: dict[str, float] = {}
    with Visit(browser, page) as visit:
        for _ in range(2):
            for name, action in ACTIONS.items():
                seconds = worked(visit, partial(visit.page.evaluate, f"() => {{ {action} }}"))
                waited[name] = min(seconds, waited.get(name, seconds))
            visit.page.evaluate("document.getElementById('scatter').open = false")
        assert visit.said == []
    assert max(waited.values()) < MOST_SECONDS, waited

"""A page in the browser, and what the tests ask of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page

DESKTOP, PHONE = (1280, 900), (390, 844)


class Visit:
    """A page that is open, with all that it said and asked for."""

    def __init__(self, browser: Browser, path: Path, size: tuple[int, int] = DESKTOP, **options: Any) -> None:
        self._context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        self.page: Page = self._context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.blocked: dict[str, str | None] = {}
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", lambda request: self.blocked.update({request.url: request.failure}))
        self.page.goto(path.as_uri())
        self.address = path.as_uri()

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_error: object) -> None:
        self._context.close()

    def table(self) -> Locator:
        return self.page.locator("#board")

    def models(self) -> list[str]:
        """Those that are seen, from the top."""
        return self.table().locator("tbody tr > th > a").all_inner_texts()

    def column(self, key: str) -> list[str]:
        """What a column shows, without intervals."""
        heads = self.table().locator("thead th").all()
        (at,) = (i for i, head in enumerate(heads) if head.get_attribute("data-key") == key)
        cells = self.table().locator(f"tbody tr > :nth-child({at + 1})").all_inner_texts()
        return [cell.split("\n")[0] for cell in cells]


def luminance(colour: str) -> float:
    """Relative luminance of a CSS `rgb(…)`, as WCAG 2.2 defines it."""
    channels = [int(text) / 255 for text in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

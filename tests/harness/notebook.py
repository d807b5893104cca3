"""Short runs through the Python API."""

from __future__ import annotations

from typing import Any

import stressbench
from stressbench import Record

LIMIT = 30


def run(model: Any, **words: Any) -> Record:
    asked: dict[str, Any] = {"suite": "corruption", "dataset": "digits", "limit": LIMIT, "progress": False}
    if "suite" not in words:
        asked |= {"corruptions": "fog", "severities": 3}
    return stressbench.run(model, **(asked | words))

"""Tables as text: Markdown for a page or a paper, CSV for a spreadsheet."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Mapping, Sequence


def escape(text: str) -> str:
    """A stranger's words as plain text in Markdown: no markup, no new line, no new cell."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", plain)


def markdown(rows: Sequence[Mapping[str, str]], left: Collection[str]) -> str:
    """Rows of the same columns, their cells printed as they are; columns in `left` are aligned to the left."""
    import pandas as pd

    columns = list(rows[0])
    return pd.DataFrame(rows, columns=columns, dtype="object").to_markdown(
        index=False, disable_numparse=True, colalign=["left" if column in left else "right" for column in columns]
    )


def csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows under a line of all their columns; None, and what a row does not have, is an empty cell."""
    import pandas as pd

    columns = list(dict.fromkeys(name for row in rows for name in row))
    # As objects, or a whole number beside an empty cell would become a float.
    text: str = pd.DataFrame(rows, columns=columns, dtype="object").to_csv(index=False)
    return text.removesuffix("\n")

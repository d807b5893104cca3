"""Tables as Markdown and CSV."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Mapping, Sequence


def escape(text: str) -> str:
    """Untrusted text escaped for a Markdown table: no markup, no new line, no new cell."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", plain)


def markdown(rows: Sequence[Mapping[str, str]], left: Collection[str]) -> str:
    """A Markdown table; cells are not escaped, columns in `left` are left-aligned."""
    import pandas as pd

    columns = list(rows[0])
    return pd.DataFrame(rows, columns=columns, dtype="object").to_markdown(
        index=False, disable_numparse=True, colalign=["left" if column in left else "right" for column in columns]
    )


def csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as CSV with a header of all columns; None and missing values are empty cells."""
    import pandas as pd

    columns = list(dict.fromkeys(name for row in rows for name in row))
    # As objects, or a whole number beside an empty cell would become a float.
    text: str = pd.DataFrame(rows, columns=columns, dtype="object").to_csv(index=False)
    return text.removesuffix("\n")

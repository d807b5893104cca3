"""Console output in the README and the docs is what the commands print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if "[[[cog" in path.read_text()]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_console_output_is_fresh(page: Path) -> None:
    command = [sys.executable, "-m", "cogapp", "--check", "--diff", "-P", "-I", "docs", page]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, f"run `make outputs` and look at the difference:\n{done.stdout}{done.stderr}"

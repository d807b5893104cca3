"""Console output in the documentation: `make outputs` writes it into the marked places, and a test compares it.

cogapp calls `show` where a page has a comment with `[[[cog`; see `docs/commands.md`.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def show(command: str) -> None:
    """Prints a command of this environment and its output, as a Markdown block; raises if the command fails."""
    program, *arguments = shlex.split(command)
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    done = subprocess.run(
        [Path(sys.executable).parent / program, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stderr}")
    lines = [line.rstrip() for line in done.stdout.strip("\n").splitlines()]
    print("```console", f"$ {command}", *lines, "```", sep="\n")

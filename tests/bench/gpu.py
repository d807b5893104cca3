"""What to do on a machine with a GPU: `python tests/bench/gpu.py [--out build/gpu]`, or `make gpu`.

The CUDA tests, the table of speed on the CPU and on the GPU, and the records of a sweep, one step after the other. A
step that takes ten minutes is interrupted, and the same command resumes: a finished step is not done again, and a sweep
goes on where it was. Each leaves its output in `OUT/STEP.log`; records are in `OUT/runs`.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = [
    f"tests/harness/{name}.py" for name in ("datasets/test_cache", "test_training", "test_testing")
]  # have a GPU's
LIMIT = 570.0  # seconds
_GRACE = 25.0  # seconds to end after an interruption
AGAIN = 75  # the exit code where a step is not at its end


@dataclass(frozen=True)
class Step:
    """A command that resumes."""

    name: str
    command: Sequence[str]


def steps(device: str, sweep: Path, out: Path, tiny: bool) -> list[Step]:
    """Those of a device; `tiny` tries each on next to nothing."""
    here, python = ROOT / "tests" / "bench", sys.executable
    small = ["--draws", "2", "--images", "2", "--repeats", "1"] if tiny else []
    tests = TESTS[:1] if tiny else TESTS
    speed = [
        Step(f"table-{each}", [python, str(here / "table.py"), "--device", each])
        for each in dict.fromkeys(("cpu", device))
        if not tiny
    ]
    return [
        Step("tests", [python, "-m", "pytest", *tests]),
        Step("mc-dropout", [python, str(here / "bench_mc_dropout.py"), "--device", device, *small]),
        *speed,
        Step("sweep", [str(Path(python).parent / "bench"), "sweep", str(sweep), "--out", str(out / "runs")]),
    ]


def run(todo: Sequence[Step], out: Path, limit: float = LIMIT) -> int:
    """Do what is not done yet; returns the exit code."""
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for step in todo:
        done = out / f"{step.name}.done"
        if done.exists():
            print(f"{step.name}: done before", flush=True)
            continue
        with (
            (out / f"{step.name}.log").open("a", encoding="utf-8") as log,
            subprocess.Popen(step.command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT) as process,
        ):
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(_GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()
                print(f"{step.name}: not at its end after {limit:g} seconds; the same command goes on", flush=True)
                return AGAIN
        print(f"{step.name}: {'done' if code == 0 else f'failed with exit code {code}'}, {log.name}", flush=True)
        if code == 0:
            done.touch()
        else:
            failed.append(step.name)
    return 1 if failed else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sweep", type=Path, default=ROOT / "docs" / "study.toml")
    parser.add_argument("--tiny", action="store_true", help="next to nothing of each, to try the command itself")
    options = parser.parse_args()
    out = options.out.absolute()
    sys.exit(run(steps(options.device, options.sweep.absolute(), out, options.tiny), out))


if __name__ == "__main__":
    main()

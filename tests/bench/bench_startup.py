"""How soon the command line answers: `python tests/bench/bench_startup.py`. The median of whole processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 9


def main() -> None:
    bench = str(Path(sys.executable).parent / "bench")
    for arguments in (["--help"], ["list"]):
        times = []
        for _ in range(RUNS):
            start = time.perf_counter()
            subprocess.run([bench, *arguments], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        print(f"{'bench ' + ' '.join(arguments):<20} {statistics.median(times):.2f} s")


if __name__ == "__main__":
    main()

"""How soon the command line answers, and the package is imported: `python tests/bench/bench_startup.py`.

Of a command, the median of whole processes; of the import, the median of what it takes in new processes.
"""

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
    code = "import time; start = time.perf_counter(); import stressbench; print(time.perf_counter() - start)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(RUNS)
    ]
    print(f"{'import stressbench':<20} {1000 * statistics.median(times):.1f} ms")


if __name__ == "__main__":
    main()

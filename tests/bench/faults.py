"""Injects faults and tries damaged inputs: `python tests/bench/faults.py [--kills 20] [--files 5000]`.

A run is ended at random moments by each of several signals, and by a model that crashes, exits or is killed in the
middle; the same command must then give the record of a run that was left alone. Tables, records, settings, .npy files,
specs and decoded images have bytes changed, cut off and put in at random; what is read from them must be an error in a
line, or what was written where the damage is to nothing that counts. Prints a line for each kind, and fails if anything
was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stressbench import record, spec
from stressbench._util import toml
from stressbench.datasets.npy import NpyFile
from stressbench.errors import UserError
from stressbench.results.tables import Damaged, finished

BENCH = str(Path(sys.executable).parent / "bench")
MODEL = """
import ctypes, os, signal, torch

class Net(torch.nn.Module):
    def __init__(self, dataset, how):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3 * dataset.image_size[0] * dataset.image_size[1], dataset.classes)
        self.how, self.passes = how, 0

    def forward(self, images):
        self.passes += 1
        if self.passes == 12 and os.path.exists("faulty"):
            os.remove("faulty")
            {"exit": lambda: ctypes.CDLL(None)._exit(0), "crash": lambda: ctypes.string_at(0),
             "killed": lambda: os.kill(os.getpid(), signal.SIGKILL)}[self.how]()
        return self.layer(images.flatten(1))

def net(dataset, how: str):
    return Net(dataset, how)
"""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def command(out: str, how: str = "none") -> list[str]:
    words = ["--suite", "corruption", "-o", "corruptions=fog,contrast", "--limit", "100", "--batch-size", "50"]
    return [BENCH, "run", *words, "--out", out, "--model", f"file:nets.py:net,how={how}"]


def numbers(out: str) -> dict[str, Any]:
    (path,) = Path(out).glob("*/record.json")
    fields: dict[str, Any] = json.loads(path.read_text())
    return {key: value for key, value in fields.items() if key not in ("created", "timing", "environment", "model")}


def finish(out: str, how: str, expected: dict[str, Any]) -> bool:
    """Whether the same command ends with the right record."""
    again = subprocess.run(command(out, how), capture_output=True, text=True)
    return again.returncode == 0 and numbers(out) == expected


def runs(kills: int, lots: random.Random) -> int:
    """Faults in running commands; returns how many were not got over."""
    started = time.perf_counter()
    subprocess.run(command("alone"), check=True, capture_output=True)
    whole, expected, lost = time.perf_counter() - started, numbers("alone"), 0
    for number in SIGNALS:
        outcomes = Counter[str]()
        for _ in range(kills):
            shutil.rmtree("ended", ignore_errors=True)
            with subprocess.Popen(command("ended"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
                time.sleep(lots.uniform(0, whole))
                process.send_signal(number)
                said = process.communicate(timeout=60)[1].decode()
            what = "resumed to the right record" if finish("ended", "none", expected) else "LOST"
            outcomes[f"{what}, after a traceback" if "Traceback" in said else what] += 1
        lost += sum(number for what, number in outcomes.items() if what.startswith("LOST"))
        print(f"{number.name} at random moments of a run: {kills} tried, {dict(outcomes)}", flush=True)
    for how in ("exit", "crash", "killed"):
        Path("faulty").touch()
        ended = subprocess.run(command(how, how), capture_output=True, text=True)
        right = ended.returncode != 0 and "bench: " in ended.stderr.splitlines()[-1] and finish(how, how, expected)
        lost += not right
        print(
            f"a model that ends its process ({how}): 1 tried, {'named, and resumed' if right else 'LOST'}", flush=True
        )
    return lost


def damaged(content: bytes, lots: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(lots.choice((1, 1, 2, 8))):
        place = lots.randrange(len(changed)) if changed else 0
        kind = lots.randrange(4)
        if kind == 0 and changed:
            changed[place] ^= 1 << lots.randrange(8)
        elif kind == 1:
            del changed[place:]
        elif kind == 2:
            changed[place:place] = lots.randbytes(lots.randrange(1, 9))
        else:
            del changed[place : place + lots.randrange(1, 9)]
    return bytes(changed)


def inputs(name: str, count: int, content: bytes, read: Callable[[bytes], bool], lots: random.Random) -> int:
    """Damaged inputs; `read` says whether what it read is as written, or of no consequence."""
    outcomes, lost, longest = Counter[str](), 0, 0.0
    for _ in range(count):
        changed = damaged(content, lots)
        started = time.perf_counter()
        try:
            outcomes["as written, or another valid one" if read(changed) else "WRONG"] += 1
        except (UserError, Damaged):
            outcomes["refused in a line"] += 1
        except Exception as error:
            outcomes[f"TRACEBACK {type(error).__name__}"] += 1
        longest = max(longest, time.perf_counter() - started)
    lost = sum(number for what, number in outcomes.items() if what.startswith(("WRONG", "TRACEBACK")))
    print(f"damaged {name}: {count:,} tried, {dict(outcomes)}, at most {1000 * longest:.0f} ms each", flush=True)
    return lost


def files(count: int, lots: random.Random) -> int:
    (folder,) = Path("alone").iterdir()
    tables = finished(folder)
    condition = {"corruption": "fog", "severity": 3}
    path = tables.path(condition)
    before = tables.read(condition, 100)
    assert before is not None

    def table(content: bytes) -> bool:
        path.write_bytes(content)
        found = tables.read(condition, 100)
        return found is not None and all(found[0][size].equals(before[0][size]) for size in before[0])

    def of_record(content: bytes) -> bool:
        Path("record.json").write_bytes(content)
        record.load(Path("record.json"))
        return True  # one that is valid: whether its numbers are right, the leaderboard's replay finds out

    def settings(content: bytes) -> bool:
        Path("some.toml").write_bytes(content)
        toml.load(Path("some.toml"))
        return True

    array = np.arange(600, dtype=np.uint8).reshape(50, 12)
    np.save("whole.npy", array)

    def npy(content: bytes) -> bool:
        Path("some.npy").write_bytes(content)
        rows = NpyFile(Path("some.npy"), "save it again")
        rows.read(0, 5)
        return True

    def specs(content: bytes) -> bool:
        spec.parse(content.decode("utf-8", errors="replace"))
        return True

    settings_text = b'models = ["resnet18", "resnet18-smooth"]\ndataset = "cifar100"\n[options]\nseverities = [1, 2]\n'
    lost = inputs("tables", count, path.read_bytes(), table, lots)
    lost += inputs("records", count, (folder / "record.json").read_bytes(), of_record, lots)
    lost += inputs("settings (TOML)", count, settings_text, settings, lots)
    lost += inputs(".npy files", count, Path("whole.npy").read_bytes(), npy, lots)
    return lost + inputs("specs", count, b'infer-noise:(resnet18-smooth,temperature=5),sigma=0.05,a="b c"', specs, lots)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each signal (default 20)")
    parser.add_argument("--files", type=int, default=5000, help="of each kind (default 5000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lots = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("nets.py").write_text(MODEL)
        lost = runs(options.kills, lots) + files(options.files, lots)
    print(f"lost: {lost}")
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()

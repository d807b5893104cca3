"""Where the time goes in lines of the table that miss their goals: `python tests/bench/where_time_goes.py`.

The corruption suite, by stress, passes, metrics and writing; `jpeg_compression` beside its steps; and the CPU seconds
of Ray's processes, which other programs change less than the time (Linux).
"""

from __future__ import annotations

import importlib.util
import io
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_corruptions import digits as pictures
from bench_corruptions import levels
from bench_ray import request, seconds
from PIL import Image

from stressbench import registry, weights
from stressbench._util.terminal import Screen
from stressbench.datasets.digits import digits
from stressbench.execution.executors import executor
from stressbench.execution.plan import Failure
from stressbench.execution.predict import Predictor
from stressbench.execution.request import Computing, RunRequest
from stressbench.execution.session import run
from stressbench.execution.store import Store
from stressbench.randomness import image_keys
from stressbench.training.provide import provider
from stressbench_suites.corruption.digital import _JPEG, _through_pillow
from stressbench_suites.corruption.engine import corrupt
from stressbench_suites.corruption.jpeg import through_jpeg
from stressbench_suites.corruption.pixels import to_levels, truncate
from stressbench_suites.corruption.suite import CorruptionSuite


def suite(model: str, images: int) -> None:
    spent = Counter[str]()

    def timed(owner: type, name: str, what: str) -> None:
        inner = getattr(owner, name)

        def outer(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return inner(*arguments, **options)
            finally:
                spent[what] += time.perf_counter() - started

        setattr(owner, name, outer)

    kept = [(CorruptionSuite, "stress"), (Predictor, "predict"), (CorruptionSuite, "observe"), (Store, "write")]
    before = [getattr(owner, name) for owner, name in kept]
    for (owner, name), what in zip(kept, ("stress", "passes", "metrics", "writing tables"), strict=True):
        timed(owner, name, what)
    torch.manual_seed(0)
    module = registry.model(model, digits("test"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        weights.save(module, file, {})
        request = RunRequest(("corruption",), (model,), "digits", weights=(file,), limit=images)
        (ended,) = run(request, Path(folder) / "runs", fresh=True, screen=Screen(quiet=True), provider=provider)
    for (owner, name), function in zip(kept, before, strict=True):
        setattr(owner, name, function)
    if isinstance(ended, Failure):
        raise ended.error
    whole = ended.record.timing.seconds + spent["writing tables"]  # which a record's time leaves out
    shares = ", ".join(f"{what} {seconds / whole:.1%}" for what, seconds in spent.items())
    print(f"corruption suite, {model}, {images} images: {whole:.1f} s: {shares}", flush=True)


def jpeg(size: int, count: int) -> None:
    images = pictures(count, size, "cpu")
    keys, pixels, quality = image_keys(0, torch.arange(count)), levels(images), int(_JPEG.at(images, 3))

    def saved() -> list[bytes]:
        files = []
        for picture in pixels:
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "JPEG", quality=quality)
            files.append(file.getvalue())
        return files

    coded = saved()
    whole_levels = to_levels(images)
    steps: dict[str, Callable[[], object]] = {
        "whole": lambda: corrupt(images, "jpeg_compression", 3, keys),
        "to levels": lambda: to_levels(images),
        "batched": lambda: through_jpeg(whole_levels, quality),
        "by Pillow": lambda: _through_pillow(whole_levels, quality),
        "Pillow's save": saved,
        "Pillow's open and decode": lambda: [np.asarray(Image.open(io.BytesIO(one))) for one in coded],
        "truncate": lambda: truncate(images),
    }
    times: dict[str, list[float]] = {what: [] for what in steps}
    for _ in range(5):
        for what, step in steps.items():
            started = time.perf_counter()
            step()
            times[what].append((time.perf_counter() - started) / count)
    shown = ", ".join(f"{what} {1e6 * statistics.median(spent):.0f}" for what, spent in times.items())
    print(f"jpeg_compression, {size}×{size}, µs an image: {shown}", flush=True)


def cpu_seconds() -> Counter[str]:
    """What the processes of Ray, and this one, have computed so far, by what they are."""
    spent = Counter[str]()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().replace("\0", " ")
            after_name = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        own = int(process.name) == os.getpid()
        if own or "ray::Worker" in words or "/ray/" in words:
            what = "this process" if own else "workers" if "ray::Worker" in words else "Ray's own"
            spent[what] += (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
    return spent


def ray(model: str, images: int) -> None:
    if importlib.util.find_spec("ray") is None:
        print("Ray is not installed")
        return
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        weights.save(registry.model(model, digits("test")), file, {})
        for workers in (1, 2):
            with executor(Computing("ray", workers), request(model, file, 2), Screen(quiet=True)) as pool:
                seconds(pool, request(model, file, 2), Path(folder) / f"warm-{workers}")
                before = cpu_seconds()
                spent = seconds(pool, request(model, file, images), Path(folder) / str(workers))
                computed = cpu_seconds() - before
            shares = ", ".join(f"{what} {own:.1f}" for what, own in sorted(computed.items()))
            print(f"{model}, {images} images, Ray's workers: {workers}: {spent:.1f} s; CPU s: {shares}", flush=True)


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    suite("resnet18", 50)
    suite("resnet20", 200)
    jpeg(32, 1000)
    jpeg(224, 50)
    ray("resnet20", 200)


if __name__ == "__main__":
    main()

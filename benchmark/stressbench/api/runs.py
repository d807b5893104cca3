"""Runs from Python: one model through one suite, records read back, and two of them compared."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from stressbench import record as records
from stressbench import registry
from stressbench._util.terminal import Screen
from stressbench.comparison.pairs import compare_runs
from stressbench.contracts import Dataset, Suite
from stressbench.errors import Interrupted, UserError
from stressbench.execution import objects, session
from stressbench.execution.plan import Failure
from stressbench.execution.request import RunRequest, Stress
from stressbench.record import Precision, Record
from stressbench.results.runs import Run
from stressbench.training.provide import provider

if TYPE_CHECKING:
    import pandas as pd


def run(
    model: nn.Module | Callable[[Dataset], nn.Module] | str,
    suite: Suite | str,
    dataset: Dataset | str,
    *,
    name: str | None = None,
    limit: int | None = None,
    draws: int | None = None,
    sizes: Sequence[int] = (),
    batch_size: int | None = None,
    seed: int = 0,
    precision: Precision = "float32",
    compiled: bool = False,
    device: str | None = None,
    weights: str | Path | Sequence[str | Path] = (),
    stress: Stress | None = None,
    data_dir: str | Path | None = None,
    dataset_name: str | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> Record:
    """Run one model through one suite and return its record.

    `model` is a network, which takes images (N, 3, H, W) in [0, 1] and returns logits (N, C); a callable that makes one
    for a `Dataset`; or a model's name, as `--model` takes it. A network or a callable is recorded under `name`, or its
    class's or function's name, and the checksum of its weights. The network itself stays as it is, in its own mode and
    on its own device: the run uses a copy. `suite` is a suite's name or a `Suite`, and `dataset` a dataset's name, or
    what `arrays` or `from_dataset` returned. The other arguments are those of `bench run` (`compiled` is
    `--compile`), and `options` are the
    suite's, such as `corruptions=("fog", "snow")`, `severities=3` or `baseline=record`.

    The run folder with the tables of every image is made under `out`, or under a temporary folder, which is kept until
    this process ends: `record.folder` says where. With `out`, a named model and suite resume what is there; the run of
    an object is always made again, because its weights do not tell what its code computes. `progress=False` prints
    nothing.

    Raises `UserError` for whatever is wrong with the arguments, the model or the suite.

    >>> import torch, stressbench
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10, bias=False))
    >>> _ = torch.nn.init.zeros_(net[1].weight)
    >>> record = stressbench.run(
    ...     net, suite="corruption", dataset="digits", limit=20, corruptions="fog", severities=3, progress=False
    ... )
    >>> record.to_frame()[["corruption", "nll"]].round(3)
      corruption    nll
    0       none  2.303
    1        fog  2.303
    """
    if isinstance(model, str) and name is not None:
        raise UserError(f"'{model}' is recorded by its own name: leave name= out")
    if not isinstance(suite, str | Suite):
        raise UserError(f"the suite is a {type(suite).__name__}: pass a suite's name or an instance of a Suite")
    if not isinstance(dataset, str | Dataset):
        raise UserError(
            f"the dataset is a {type(dataset).__name__}: pass a dataset's name, stressbench.arrays(images, labels) or "
            "stressbench.from_dataset(dataset)"
        )
    if isinstance(dataset, Dataset):
        dataset.require_targets(f"the dataset {dataset.name}")
    for word, value in (("limit", limit), ("draws", draws), ("batch_size", batch_size), *(("sizes", n) for n in sizes)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UserError(f"invalid {word}={value!r}: expected a whole number from 1")
    request = RunRequest(
        suites=(suite,),
        models=(model if isinstance(model, str) else objects.model(model, name),),
        dataset=dataset,
        data_dir=None if data_dir is None else Path(data_dir),
        dataset_name=dataset_name,
        suite_options={key: _text(value) for key, value in options.items() if value is not None},
        stress=stress,
        weights=[Path(file) for file in ([weights] if isinstance(weights, str | Path) else weights)],
        draws=draws,
        sizes=tuple(sizes),
        limit=limit,
        batch_size=batch_size,
        seed=seed,
        precision=precision,
        compiled=compiled,
        device=device,
    )
    folder = Path(tempfile.mkdtemp(dir=_temporary().name)) if out is None else Path(out)
    fresh = not (isinstance(model, str) and isinstance(suite, str))
    try:
        (outcome,) = session.run(request, folder, fresh, Screen(quiet=not progress), provider)
    except Interrupted as error:
        raise KeyboardInterrupt from error
    if isinstance(outcome, Failure):
        raise outcome.error
    assert isinstance(outcome, session.Finished), "without a shard"
    outcome.record._folder = outcome.folder
    outcome.record._suite = None if isinstance(suite, str) else outcome.plan.suite
    return outcome.record


def load(path: str | Path) -> Record:
    """The record of a run folder, or of a JSON file that `Record.save` wrote.

    Raises `UserError` for a path that holds no record, or one of a newer version.
    """
    record = records.load(Path(path))
    if (Path(path) / "run.json").is_file():
        record._folder = Path(path)
    return record


def compare(first: Record | str | Path, second: Record | str | Path) -> pd.DataFrame:
    """How the metrics of two runs differ, as `bench compare` shows it: a row for each metric of the suite.

    Each run is a record, or a path for `load`. They must be of one suite, on the same images with the same seed. The
    columns are the metric's values for both runs, `first` and `second`; `difference`, the second less the first, with
    the ends of its 95 % interval, `low` and `high`; `p` of the paired test, adjusted for the number of metrics (Holm);
    and the `verdict`. Both come from the delete-a-group jackknife over the images, from the tables of the runs, or from
    what a record holds where it is alone. Numbers are in the units of the suite, NaN where there is none.

    Raises `UserError` for runs that do not compare, and for damaged tables.
    """
    import pandas as pd

    found = [_run(one if isinstance(one, Record) else load(one)) for one in (first, second)]
    comparison = compare_runs(found, Screen(quiet=True))
    (pair,) = comparison.pairs
    known = {difference.metric.name: difference for difference in pair.differences}
    nan = float("nan")
    rows = []
    for metric in found[0].suite.metrics:
        d = known.get(metric.name)
        if d is None:
            values = [run.record.metrics.get(metric.name) for run in found]
            rows.append([metric.name, *values, nan, nan, nan, nan, "unknown"])
        else:
            low, high = d.difference.interval or (nan, nan)
            rows.append(
                [metric.name, d.first.value, d.second.value, d.difference.value, low, high, d.p_holm, d.verdict]
            )
    numbers = ["first", "second", "difference", "low", "high", "p"]
    frame = pd.DataFrame(rows, columns=["metric", *numbers, "verdict"]).set_index("metric")
    return frame.astype(dict.fromkeys(numbers, "float64"))


def _run(record: Record) -> Run:
    suite = record._suite or registry.suite(record.suite.name, task=record.dataset.task)
    path = record.folder or Path(f"the record of {record.model.spec}")
    return Run(path, record, suite, own_suite=record._suite is not None)


def _text(value: Any) -> str:
    """A suite's option as the command line has it; a record stands for its run folder."""
    if isinstance(value, Record):
        if value.folder is None:
            raise UserError("this record was read from a file: pass the file's path as the option")
        return str(value.folder)
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="stressbench-")

"""Plan → record: the only loop over conditions and batches.

The runner alone knows about devices, batches, draws, resuming and time; a suite sees one batch under one condition,
a model sees images.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stressbench import randomness, record, registry
from stressbench.contracts import Batch, Condition, Metrics, Stressed
from stressbench.datasets.resident import Resident, to_float
from stressbench.errors import UserError
from stressbench.models import Ready
from stressbench.plan import Plan, device_name
from stressbench.predict import Predictor
from stressbench.resampling import Numbers, Tables, interval, jackknife
from stressbench.store import Damaged, Store
from stressbench.terminal import Advance, Screen


class Run:
    """One plan with its model, images and folder."""

    def __init__(self, plan: Plan, ready: Ready, images: Resident, out: Path) -> None:
        self.plan = plan
        self._ready = ready
        self._images = images
        # A deterministic model's draws are all the same, so one is made and one is what the record says.
        self.draws = (plan.draws or ready.default_draws) if ready.stochastic else 1
        self._sizes = plan.sizes if ready.stochastic else ()
        if ready.most_draws is not None and self.draws > ready.most_draws:
            option = "--sizes" if plan.sizes else "--draws"
            raise UserError(
                f"{plan.model} has {ready.most_draws} draws and {option} asks for {self.draws}: more would repeat them"
            )
        self._data = record.DatasetInfo(
            name=plan.dataset.name,
            split=plan.dataset.split,
            n=plan.n,
            fingerprint=images.fingerprint,
            altered=plan.dataset.altered,
            stress=plan.stress,
            stress_verified=None if plan.archive is None else plan.archive.verified,
        )
        with self._blamed():
            self._baseline = plan.suite.baseline(self._data)
        self.store = Store(out, plan.title, self._identity())

    def __call__(self, fresh: bool, screen: Screen) -> record.Record:
        """Do what is not yet done, score all and commit the record.

        Raises `UserError` for a model that fails or a folder that cannot be written; what was finished stays, and the
        same call goes on from there.
        """
        plan = self.plan
        if plan.draws not in (None, self.draws):
            option = f"--sizes {','.join(map(str, plan.sizes))}" if plan.sizes else f"--draws {plan.draws}"
            screen.note(f"{plan.model} is deterministic: it has one draw, and {option} changes nothing")
        with self.store.open(fresh):
            pending = [condition for condition in plan.conditions if not self._finished(condition, screen)]
            if len(pending) < len(plan.conditions):
                done = len(plan.conditions) - len(pending)
                screen.note(f"{done} of {len(plan.conditions)} conditions are already in {self.store.folder}")
            if pending:
                predictor = self._predictor()
                with screen.progress(f"{plan.model} · {plan.suite.name}", plan.n * len(pending), "images") as advance:
                    for condition in pending:
                        self._observe(condition, predictor, advance)
            tables, seconds = self._tables()
            result = self._score(tables, seconds)
            if not pending and (kept := self._kept(result)) is not None:
                return kept
            result = result.model_copy(update=self._intervals(tables))
            self.store.write_record(result.to_json())
            return result

    def _finished(self, condition: Condition, screen: Screen) -> bool:
        try:
            return self.store.read(condition, self.plan.n) is not None
        except Damaged as damage:
            screen.note(str(damage))
            return False

    def _predictor(self) -> Predictor:
        return Predictor(
            self._ready.module.to(self.plan.device),
            self._ready.entry,
            self.plan.dataset.classes,
            self.draws,
            self._ready.stochastic,
            self.plan.precision,
            self.plan.batch_size,
        )

    def _observe(self, condition: Condition, predictor: Predictor, advance: Advance) -> None:
        """Make one condition's table and commit it."""
        plan = self.plan
        started = time.perf_counter()
        seed = randomness.derive(plan.seed, condition)
        parts: list[dict[str, Tensor]] = []
        for start in range(0, plan.n, plan.batch_size):
            stop = min(start + plan.batch_size, plan.n)
            images, labels = self._images.batch(start, stop)
            indices = torch.arange(start, stop, device=plan.device)
            batch = Batch(images, labels, indices, randomness.image_keys(seed, indices))
            try:
                stressed = self._stressed(condition, batch, predictor.module)
                log_probs = predictor(stressed.images, batch.keys)
            except UserError as error:
                raise UserError(f"under {describe(condition)}, {error}") from error
            with self._blamed():
                examined = plan.suite.examine(condition, batch, stressed.images, predictor.module)
                observed = self._observed(condition, batch, log_probs)
            parts.append({"index": indices, "label": labels, **stressed.columns, **examined, **observed})
            advance(stop - start, describe(condition))
        table = {name: np.concatenate([part[name].cpu().numpy() for part in parts]) for name in parts[0]}
        self.store.write(condition, table, time.perf_counter() - started)

    def _stressed(self, condition: Condition, batch: Batch, module: nn.Module) -> Stressed:
        plan = self.plan
        if plan.archive is not None and condition in plan.archive:
            start, stop = int(batch.indices[0]), int(batch.indices[-1]) + 1
            return Stressed(to_float(plan.archive.read(condition, start, stop), plan.device))
        with self._blamed():
            return plan.suite.present(condition, batch, module)

    def _observed(self, condition: Condition, batch: Batch, log_probs: Tensor) -> dict[str, Tensor]:
        """What the suite sees in all draws, and for a curve's smaller sizes in the first ones, as `name@size`."""
        observed = self.plan.suite.observe(condition, batch, log_probs)
        for size in self._sizes[:-1]:
            fewer = self.plan.suite.observe(condition, batch, log_probs[:size])
            observed |= {f"{name}@{size}": column for name, column in fewer.items()}
        return observed

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """What a suite fails with is its author's to mend, and said in a line."""
        fault = f"{self.plan.suite_entry} failed with {registry.origin(self._ready.module)}"
        try:
            with registry.blamed(fault, passing=(torch.OutOfMemoryError,)):
                yield
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"the device has too little memory for the {self.plan.suite.name} suite with "
                f"{self.plan.batch_size} images at a time: give a smaller --batch-size"
            ) from error

    def _tables(self) -> tuple[list[pd.DataFrame], float]:
        """All conditions' tables, and the seconds that they took."""
        found = [self.store.read(condition, self.plan.n) for condition in self.plan.conditions]
        whole = [one for one in found if one is not None]
        assert len(whole) == len(found), "written or found whole a moment ago, and the folder is locked"
        return [table for table, _ in whole], sum(seconds for _, seconds in whole)

    def _scored(self, tables: Tables) -> tuple[dict[int, list[Metrics]], dict[int, Metrics]]:
        """The conditions' metrics and the record's, by number of draws, in their order."""
        suite, conditions = self.plan.suite, self.plan.conditions
        rows = {
            size: suite.score(conditions, [_at(table, size) for table in tables])
            for size in sorted({*self._sizes, self.draws})
        }
        return rows, {size: suite.aggregate(conditions, rows[size], self._baseline) for size in rows}

    def _score(self, tables: Tables, seconds: float) -> record.Record:
        """The record of these tables, without intervals."""
        plan, conditions = self.plan, self.plan.conditions
        with self._blamed():
            rows, metrics = self._scored(tables)
            findings = plan.suite.findings(conditions, rows[self.draws])
        row_curves = [_curves({size: rows[size][i] for size in self._sizes}) for i in range(len(conditions))]
        return record.Record(
            schema_version=record.SCHEMA_VERSION,
            created=datetime.now(UTC).replace(microsecond=0),
            suite=record.SuiteInfo(
                name=plan.suite.name,
                version=plan.suite.version,
                distribution=plan.suite_entry.distribution,
                distribution_version=plan.suite_entry.version,
                options=dict(plan.suite_options),
                baseline=self._baseline,
            ),
            dataset=self._data,
            model=record.ModelInfo(
                spec=plan.pinned,
                distribution=self._ready.entry.distribution,
                version=self._ready.entry.version,
                plugins=[
                    record.PluginInfo(name=plugin.name, distribution=plugin.distribution, version=plugin.version)
                    for plugin in self._ready.plugins
                ],
                parameters=self._ready.parameters,
                stochastic=self._ready.stochastic,
                weights_checksum=self._ready.checksum,
                weights_source=self._ready.weights_source,
            ),
            draws=self.draws,
            seed=plan.seed,
            precision=plan.precision,
            batch_size=plan.batch_size,
            device=plan.device.type,
            environment=record.environment(device_name(plan.device)),
            timing=record.Timing(seconds=round(seconds, 3), images_per_second=round(plan.n * len(tables) / seconds, 1)),
            metrics=metrics[self.draws],
            curves=_curves({size: metrics[size] for size in self._sizes}),
            intervals={},
            jackknife={},
            findings=findings,
            conditions=[
                record.Row(condition=dict(condition), n=len(table), metrics=row, curves=curves)
                for condition, table, row, curves in zip(conditions, tables, rows[self.draws], row_curves, strict=True)
            ],
        )

    def _intervals(self, tables: Tables) -> dict[str, record.Intervals | record.Jackknife]:
        """Around every metric of the record and its curves, and what they are made from."""
        metrics = self.plan.suite.metrics

        def score(part: Tables) -> Numbers:
            _, found = self._scored(part)
            return np.array([[of_size[m.name] for m in metrics] for of_size in found.values()], dtype=np.float64)

        with self._blamed():
            values, without = score(tables), jackknife(score, tables)
        intervals: record.Intervals = {m.name: {} for m in metrics}
        kept: record.Jackknife = {m.name: {} for m in metrics}
        for s, size in enumerate(map(str, sorted({*self._sizes, self.draws}))):
            for i, m in enumerate(metrics):
                value, parts = float(values[s, i]), without[:, s, i]
                known = len(parts) > 1 and not math.isnan(value) and bool(np.isfinite(parts).all())
                intervals[m.name][size] = interval(value, parts, m.range) if known else None
                kept[m.name][size] = parts.tolist() if known else None
        return {"intervals": intervals, "jackknife": kept}

    def _kept(self, result: record.Record) -> record.Record | None:
        """The record that is there already, if it says the same: when and where it was made is for it to tell.

        The intervals, which take the longest, follow from the same tables.
        """
        try:
            there = record.load(self.store.folder)
        except UserError:
            return None
        told = {"created", "environment", "timing", "batch_size", "intervals", "jackknife"}
        same = there.model_dump(exclude=told) == result.model_dump(exclude=told)
        return there if same and there.jackknife else None

    def _identity(self) -> dict[str, Any]:
        """All that decides the tables. The batch size does not, and a baseline changes only what is made from them."""
        plan, ready = self.plan, self._ready
        return {
            "suite": {
                "name": plan.suite.name,
                "version": plan.suite.version,
                "distribution": plan.suite_entry.distribution,
                "options": {k: v for k, v in plan.suite_options.items() if k not in plan.suite.free_options},
                "conditions": [dict(condition) for condition in plan.conditions],
            },
            "dataset": self._data.model_dump(mode="json"),
            "model": {
                "spec": plan.pinned,
                # The wrapped ones too: what any of them computes may change with its version.
                "plugins": [[plugin.name, plugin.distribution, plugin.version] for plugin in ready.plugins],
                "weights": ready.checksum,
                **({"origins": list(ready.origins)} if ready.origins else {}),
            },
            "draws": self.draws,
            "sizes": self._sizes,
            "seed": plan.seed,
            "precision": plan.precision,
            "device": plan.device.type,
        }


def _at(table: pd.DataFrame, size: int) -> pd.DataFrame:
    """The table as it would be with so many draws: its own columns, or in their place those that end in `@size`."""
    fewer = {f"{name}@{size}": name for name in table.columns if f"{name}@{size}" in table.columns}
    plain = [name for name in table.columns if "@" not in name and name not in fewer.values()]
    return table[[*plain, *fewer]].rename(columns=fewer)


def _curves(metrics: Mapping[int, Metrics]) -> record.Curves:
    """Metrics by ensemble size → each metric's curve."""
    names = next(iter(metrics.values()), {})
    return {name: {str(size): metrics[size][name] for size in metrics} for name in names}


def describe(condition: Condition) -> str:
    """A condition for people: `fog, severity 3`."""
    return ", ".join(value if isinstance(value, str) else f"{key} {value:g}" for key, value in condition.items())

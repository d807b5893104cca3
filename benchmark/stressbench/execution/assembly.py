"""The inputs of a run and its scores → its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from stressbench import record, record_file
from stressbench.contracts import Metrics, Suite
from stressbench.execution.device import device_name
from stressbench.execution.environment import environment
from stressbench.execution.identity import Inputs
from stressbench.results.resampling import Tables
from stressbench.results.scoring import Scores
from stressbench.results.sketches import sketch


def suite_info(inputs: Inputs) -> record.SuiteInfo:
    """The suite as the record has it; raises whatever the suite raises for its baseline and its protocol."""
    plan = inputs.plan
    return record.SuiteInfo(
        name=plan.suite.name,
        version=plan.suite.version,
        distribution=plan.suite_entry.distribution,
        distribution_version=plan.suite_entry.version,
        options=dict(plan.suite_options),
        baseline=plan.suite.baseline(inputs.data),
        protocol=plan.suite.protocol(inputs.data),
    )


class Outline(BaseModel):
    """What a record says beside its scores, and what is needed to add them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    record: record.Record
    """Without metrics, and with the findings of the run alone."""
    curve: list[int]
    """The numbers of draws of the curves; empty for none."""
    images: int
    """Clean and stressed ones of all conditions."""


def outline(inputs: Inputs, suite: record.SuiteInfo, executor: str) -> Outline:
    """What a run's record says without its scores."""
    plan, ready = inputs.plan, inputs.ready
    plugins = ready.model.plugins
    empty = record.Record(
        schema_version=record_file.SCHEMA_VERSION,
        created=datetime.now(UTC).replace(microsecond=0),
        suite=suite,
        dataset=inputs.data,
        sources=list(inputs.sources),
        model=record.ModelInfo(
            spec=plan.model.canonical,
            name=plan.name,
            distribution=ready.entry.distribution,
            version=ready.entry.version,
            plugins=[
                record.PluginInfo(name=plugin.name, distribution=plugin.distribution, version=plugin.version)
                for plugin in plugins
            ],
            parameters=ready.parameters,
            stochastic=ready.traits.stochastic,
            weights_checksum=ready.checksum,
            weights_source=ready.weights_source,
            training=list(ready.training),
        ),
        draws=inputs.draws,
        seed=plan.seed,
        precision=plan.precision,
        batch_size=plan.batch_size,
        device=plan.device.type,
        environment=environment(
            device_name(plan.device),
            executor,
            {plan.suite_entry.distribution, *(plugin.distribution for plugin in plugins)},
            plan.compiled,
        ),
        timing=record.Timing(seconds=0, images_per_second=0),
        metrics={},
        curves={},
        intervals={},
        jackknife={},
        findings=[],
        conditions=[
            record.Row(condition=dict(condition), n=plan.rows(condition), metrics={}) for condition in plan.conditions
        ],
    )
    return Outline(record=empty, curve=list(inputs.curve), images=sum(map(plan.images, plan.conditions)))


def assemble(
    outline: Outline,
    suite: Suite,
    tables: Mapping[int, Tables],
    scores: Mapping[int, Scores],
    findings: Sequence[record.Finding],
    seconds: float,
) -> record.Record:
    """The record of a run that took so many seconds, from its tables and scores by number of draws.

    It has no intervals yet.
    """
    empty, curve = outline.record, outline.curve
    whole = scores[empty.draws]
    timing = record.Timing(seconds=round(seconds, 3), images_per_second=round(outline.images / seconds, 1))
    rows = [
        record.Row(
            condition=row.condition,
            n=row.n,
            metrics=whole.rows[i],
            curves=_curves({size: scores[size].rows[i] for size in curve}),
        )
        for i, row in enumerate(empty.conditions)
    ]
    scored = {
        "timing": timing,
        "metrics": whole.metrics,
        "curves": _curves({size: scores[size].metrics for size in curve}),
        "findings": list(findings),
        "conditions": rows,
        "sketches": [sketch(table) for table in tables[empty.draws]] if suite.rows == "image" else [],
    }
    return record.Record(**{**dict(empty), **scored})


def _curves(metrics: Mapping[int, Metrics]) -> record.Curves:
    """Metrics by number of draws → each metric's curve."""
    names = next(iter(metrics.values()), {})
    return {name: {str(size): metrics[size][name] for size in metrics} for name in names}

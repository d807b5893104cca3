"""The inputs of a run and its scores → its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from stressbench import record
from stressbench.contracts import Metrics
from stressbench.execution.device import device_name
from stressbench.execution.environment import environment
from stressbench.execution.identity import Inputs
from stressbench.results.scoring import Scores


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


def assemble(
    inputs: Inputs,
    suite: record.SuiteInfo,
    scores: Mapping[int, Scores],
    findings: Sequence[record.Finding],
    seconds: float,
) -> record.Record:
    """The record of a run that took so many seconds, from its scores by number of draws; it has no intervals yet."""
    plan, ready = inputs.plan, inputs.ready
    plugins = ready.model.plugins
    whole, curve = scores[inputs.draws], inputs.curve
    return record.Record(
        schema_version=record.SCHEMA_VERSION,
        created=datetime.now(UTC).replace(microsecond=0),
        suite=suite,
        dataset=inputs.data,
        sources=list(inputs.sources),
        model=record.ModelInfo(
            spec=plan.model.canonical,
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
            device_name(plan.device), {plan.suite_entry.distribution, *(plugin.distribution for plugin in plugins)}
        ),
        timing=record.Timing(
            seconds=round(seconds, 3),
            images_per_second=round(sum(map(plan.images, plan.conditions)) / seconds, 1),
        ),
        metrics=whole.metrics,
        curves=_curves({size: scores[size].metrics for size in curve}),
        intervals={},
        jackknife={},
        findings=list(findings),
        conditions=[
            record.Row(
                condition=dict(condition),
                n=plan.rows(condition),
                metrics=whole.rows[i],
                curves=_curves({size: scores[size].rows[i] for size in curve}),
            )
            for i, condition in enumerate(plan.conditions)
        ],
    )


def _curves(metrics: Mapping[int, Metrics]) -> record.Curves:
    """Metrics by number of draws → each metric's curve."""
    names = next(iter(metrics.values()), {})
    return {name: {str(size): metrics[size][name] for size in metrics} for name in names}

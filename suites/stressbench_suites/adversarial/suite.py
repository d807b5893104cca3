"""The adversarial suite: FGSM, PGD, rotations, AutoAttack and torchattacks, with an audit of their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from stressbench import metrics, randomness
from stressbench.contracts import (
    Axis,
    Batch,
    Columns,
    Condition,
    Dataset,
    Metric,
    Metrics,
    Predictor,
    Stressed,
    StressSuite,
)
from stressbench.errors import UserError, did_you_mean
from stressbench.record import Finding
from stressbench.spec import parse
from stressbench_suites.adversarial import audit, worst
from stressbench_suites.adversarial.attacks import SHARES, Attacked, Norm, Victim, corner, fgsm, noise, pgd
from stressbench_suites.adversarial.external import External
from stressbench_suites.adversarial.numbers import budgets, number
from stressbench_suites.adversarial.official import SINGLE, Official, named
from stressbench_suites.adversarial.spatial import Spatial
from stressbench_suites.adversarial.worst import CLEAN

if TYPE_CHECKING:
    import pandas as pd

    from stressbench.record import DatasetInfo

OURS = ("fgsm", "pgd")
OTHERS = ("spatial", "torchattacks", "autoattack", "pyautoattack")
STEPS = 20
EOT_DRAWS = 10


class AdversarialSuite(StressSuite):
    """Clean images, each attack at each budget, and the gradient-masking audit."""

    name = "adversarial"
    version = "2"
    benchmark = "cifar10"
    axes = (
        Axis(
            "eps",
            name="budget",
            label="ε (pixels are in 0…1)",
            kind="budget",
            panels=("attack", "norm"),
            metrics=("accuracy",),
            clean={"attack": CLEAN["attack"]},
            count="images",
        ),
    )
    scoring_options = frozenset({"attack", "eps", "norm", "audit"})
    metrics = (
        Metric(
            "robust_accuracy",
            "fraction",
            "higher",
            interval="proportion",
            about="share of images that are right without an attack and under every attack of the largest budget",
        ),
        Metric(
            "pgd_accuracy",
            "fraction",
            "higher",
            interval="proportion",
            about="accuracy under projected gradient descent with the largest budget",
        ),
        Metric(
            "fgsm_accuracy",
            "fraction",
            "higher",
            interval="proportion",
            about="accuracy under the fast gradient sign method with the largest budget",
        ),
        Metric(
            "pgd_asr",
            "fraction",
            "lower",
            about="attack success rate of projected gradient descent: the share of right answers that become wrong",
        ),
        Metric(
            "fgsm_asr",
            "fraction",
            "lower",
            about="attack success rate of the fast gradient sign method: the share of right answers that become wrong",
        ),
        Metric("clean_accuracy", "fraction", "higher", interval="proportion", about="accuracy without an attack"),
    )
    row_metrics = (
        Metric("accuracy", "fraction", "higher", share_of="images"),
        Metric("robust_accuracy", "fraction", "higher", share_of="n"),
        Metric("asr", "fraction", "lower", share_of="attackable"),
        Metric("nll", "nats", "lower"),
        Metric("ece", "fraction", "lower"),
        # What the audit reads: images in the row, those of them that were right before, the accuracy of guessing, those
        # that only the attack took for fooled, and what was wrong with the gradients.
        Metric("images", "number", None),
        Metric("attackable", "number", None),
        Metric("chance", "fraction", None),
        Metric("unconfirmed", "fraction", None),
        *(Metric(share, "fraction", None) for share in SHARES),
    )

    def __init__(
        self,
        attack: tuple[str, ...] = OURS,
        eps: tuple[str, ...] = (),
        norm: Norm = "linf",
        steps: int = STEPS,
        step_size: str | None = None,
        restarts: int = 1,
        random_start: bool = True,
        eot_draws: int = EOT_DRAWS,
        verdicts_only: bool = False,
        audit: bool = True,
    ) -> None:
        """`eps` are fractions or decimals, in units of a pixel's range; `step_size` is 2.5·eps/steps unless given.

        Raises `UserError` for unknown attacks and for numbers that make no attack.
        """
        for name, value in (("steps", steps), ("restarts", restarts), ("eot_draws", eot_draws)):
            if value < 1:
                raise UserError(f"{name}={value} makes no attack: give 1 or more")
        if restarts > 1 and not random_start:
            raise UserError(f"{restarts} restarts without random starts are the same: leave random_start=false out")
        self._step_size = None if step_size is None else number(step_size, "step_size")
        if self._step_size is not None and self._step_size <= 0:
            raise UserError(f"step_size={step_size} moves nothing: give a number above 0")
        self._norm: Norm = norm
        self._budgets = budgets(eps, norm)
        self._steps, self._restarts, self._random_start = steps, restarts, random_start
        self._eot_draws, self._verdicts_only, self._audits = eot_draws, verdicts_only, audit
        self._ours: list[str] = []
        self._others: dict[str, External | Official | Spatial] = {}  # by what the conditions call them
        if not attack:
            raise UserError(f"no attack is named: name at least one of {', '.join((*OURS, *OTHERS))}")
        for text in attack:
            self._add(text)

    def _add(self, text: str) -> None:
        spec = named(parse(text))
        if spec.name == "spatial":
            self._others[str(spec)] = Spatial(spec, self._verdicts_only)
        elif spec.name in OTHERS:
            kind = Official if spec.name == "pyautoattack" else External
            self._others[str(spec)] = kind(spec, self._norm)
        elif spec.name not in OURS:
            known = (*OURS, *OTHERS, *SINGLE)
            raise UserError(
                f"there is no attack '{spec.name}': {did_you_mean(spec.name, known)}there are {', '.join(OURS)}, "
                f"spatial, torchattacks:CLASS, autoattack, pyautoattack and its {', '.join(SINGLE)}"
            )
        elif spec.argument or spec.options:
            raise UserError(f"'{text}' does not fit {spec.name}: it follows --eps, --norm, --steps and --restarts")
        elif spec.name not in self._ours:
            self._ours.append(spec.name)

    def unsupported(self, dataset: Dataset) -> str | None:
        for name, attack in self._others.items():
            if dataset.classes < attack.fewest_classes:
                return (
                    f"{name} needs {attack.fewest_classes} classes or more and it has {dataset.classes}: leave that "
                    "attack out (apgd-ce, fab and square, named one by one, take any number; robust_accuracy joins "
                    "them)"
                )
        return None

    def conditions(self) -> list[Condition]:
        tried = [CLEAN]
        for attack in self._ours:
            tried += [{"attack": attack, "norm": self._norm, "eps": eps} for eps in self._budgets]
        for attack, other in self._others.items():
            where: Condition = {"attack": attack, "norm": other.norm}
            tried += [{**where, "eps": eps} for eps in self._budgets] if other.takes_eps else [where]
        return [*tried, *(audit.conditions(self._norm, self._budgets[-1]) if self._audits else [])]

    def protocol(self, data: DatasetInfo) -> str | None:
        official = (attack for attack in self._others.values() if isinstance(attack, Official))
        return next((attack.protocol for attack in official), None)

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        if condition["attack"] == "none":
            return Stressed(batch.images)
        chosen = torch.ones_like(batch.targets, dtype=torch.bool)
        if condition["attack"] in audit.NAMES:
            chosen = batch.indices < audit.IMAGES
        images, columns = batch.images, {"attacked": chosen}
        # Every batch has all columns, whatever the attack tells of itself and whether any of its images are chosen.
        for name in ("fooled", *SHARES):
            columns[name] = torch.full(chosen.shape, math.nan, device=images.device)
        if chosen.any():
            part = Batch(images[chosen], batch.targets[chosen], batch.indices[chosen], batch.keys[chosen])
            with torch.random.fork_rng([images.device] if images.is_cuda else []):
                found = self._attack(condition, part, model.module)
            images = images.clone()
            images[chosen] = found.images
            for name, values in found.columns.items():
                columns[name][chosen] = values.float()
        moved = (images - batch.images).flatten(1)
        columns["linf"] = torch.linalg.vector_norm(moved, math.inf, dim=1)
        columns["l2"] = torch.linalg.vector_norm(moved, dim=1)
        return Stressed(images, columns)

    def _attack(self, condition: Condition, batch: Batch, model: nn.Module) -> Attacked:
        attack, norm, eps = str(condition["attack"]), self._norm, float(condition.get("eps", math.nan))
        # The judge's draws have the batch's own keys.
        places, draws = randomness.split(batch.keys, 2).unbind(1)
        victim = Victim(model, draws, self._eot_draws)
        images, labels = batch.images, batch.targets
        if self._verdicts_only and victim.stochastic:
            raise UserError(
                "verdicts_only is for deterministic models: an image that fools some draws of a stochastic one need "
                "not fool others, and an attack that stops there is weaker; leave it out"
            )
        if attack in self._others:
            return self._others[attack](model, victim, batch, eps, self._eot_draws)
        if attack == audit.NOISE:
            return Attacked(corner(places, images, eps, norm), {})
        step_size, restarts, random_start = self._step_size, self._restarts, self._random_start
        verdicts_only = self._verdicts_only
        if attack == "fgsm":
            return fgsm(victim, images, labels, eps, norm, verdicts_only)
        if attack in audit.NAMES:
            restarts, random_start = audit.RESTARTS if attack == audit.SEVERAL else 1, True
            # The audit reads verdicts alone; whether the judge confirms them is asked of the run's own way to attack.
            verdicts_only = verdicts_only if attack == audit.ONCE else not victim.stochastic
        if attack == audit.LARGE:
            norm, step_size = "linf", None
        starts = (noise(places, images, eps, norm, 2 * r) if random_start else images for r in range(restarts))
        # The default lets PGD cross its budget and come back (Madry et al., 2018).
        size = 2.5 * eps / self._steps if step_size is None else step_size
        return pgd(victim, images, labels, eps, norm, self._steps, size, starts, verdicts_only)

    def observe(self, condition: Condition, batch: Batch, predictions: Tensor) -> Columns:
        log_p = metrics.log_mean_probability(predictions)
        prediction = log_p.argmax(dim=-1)
        return {
            "prediction": prediction,
            "correct": prediction == batch.targets,
            "confidence": log_p.amax(dim=-1).exp(),
            "nll": metrics.negative_log_likelihood(log_p, batch.targets),
            "entropy": metrics.entropy(log_p),
            "chance": torch.full_like(log_p[:, 0], 1 / log_p.shape[-1], dtype=torch.float64),
        }

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        before = tables[list(conditions).index(CLEAN)].set_index("index")["correct"].astype(bool)
        robust = worst.robust_accuracies(conditions, tables)
        return [
            {**self._row(str(condition["attack"]), table, before), "robust_accuracy": of_all}
            for condition, table, of_all in zip(conditions, tables, robust, strict=True)
        ]

    def _row(self, attack: str, table: pd.DataFrame, before: pd.Series[bool]) -> Metrics:
        """`before` says by index whether an image was right on the clean input."""
        if "attacked" in table:
            table = table[table["attacked"]]
        correct = table["correct"].to_numpy(dtype=bool, copy=True)
        right = before.loc[table["index"]].to_numpy()
        row: Metrics = {
            "accuracy": float(correct.mean()),
            "asr": float((~correct[right]).mean()) if attack != "none" and right.any() else None,
            "nll": None,
            "ece": None,
            "images": len(table),
            "attackable": int(right.sum()),
            "chance": float(table["chance"].mean()),
        }
        # An attack that stopped at the first success has shown nothing about the loss.
        if not (attack in audit.NAMES or (parse(attack).name in (*OURS, "spatial") and self._verdicts_only)):
            confidence = torch.from_numpy(table["confidence"].to_numpy(dtype=np.float64, copy=True))
            row["nll"] = float(table["nll"].mean())
            row["ece"] = metrics.expected_calibration_error(confidence, torch.from_numpy(correct))
        row["unconfirmed"] = None
        if "fooled" in table and (believed := right & (table["fooled"] == 1).to_numpy()).any():
            row["unconfirmed"] = float(correct[believed].mean())
        for name in SHARES:
            known = table[name].dropna() if name in table else ()
            row[name] = float(np.mean(known)) if len(known) else None
        return row

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        """The worst case and each of our attacks at the largest budget, and clean accuracy; null if not made."""
        result: Metrics = {"robust_accuracy": worst.at_the_largest(conditions, rows)}
        for attack in OURS:
            budgets = [(float(c["eps"]), row) for c, row in zip(conditions, rows, strict=True) if c["attack"] == attack]
            _, largest = max(budgets, key=lambda pair: pair[0], default=(0, {}))
            result |= {f"{attack}_{name}": largest.get(name) for name in ("accuracy", "asr")}
        clean = [row for c, row in zip(conditions, rows, strict=True) if c["attack"] == "none"]
        result["clean_accuracy"] = clean[0].get("accuracy") if clean else None
        return {metric.name: result[metric.name] for metric in self.metrics}

    def findings(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> list[Finding]:
        return [*audit.findings(conditions, rows), *worst.findings(conditions, rows)]

"""`--compile`: the numbers of a run that is not compiled, where a model can be compiled, and a line where it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stressbench import randomness, registry
from stressbench.cli import main
from stressbench.contracts import Classification
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench.execution.predict import Predictor
from tiny_models import Tiny

SMALL = ("--model", "tiny,width=4", "--limit", "12", "--batch-size", "5")
KEYS = randomness.image_keys(0, torch.arange(12))


@pytest.fixture(autouse=True)
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of images of each graph that torch compiles, which is then computed as it is."""
    found: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        found.extend(len(one) for one in inputs if one.ndim == 4 and one.shape[1:] == (3, 32, 32))
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    yield found
    torch._dynamo.reset()


def bench(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["run", *map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def record(out: Path) -> dict[str, Any]:
    (path,) = out.glob("*/record.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def predictor(module: nn.Module, compiled: bool = True) -> Predictor:
    entry = registry.find("models", "tiny")
    return Predictor(module, entry, Classification(10), [1], False, "float32", 5, compiled=compiled)


@pytest.fixture
def images() -> Tensor:
    return digits("test").images.read(0, 12) / 255


def test_whole_batches_are_compiled_and_predict_the_same(images: Tensor, graphs: list[int]) -> None:
    module = Tiny(digits("test"))
    ours = predictor(module)
    for _ in range(2):
        torch.testing.assert_close(ours.predict(images, KEYS), predictor(module, False).predict(images, KEYS))
    assert graphs == [5]  # once, and not the last two images


def test_hooks_are_called(images: Tensor, graphs: list[int]) -> None:
    module = Tiny(digits("test"))
    module.register_forward_pre_hook(lambda _module, args: (1 - args[0],))  # the model's own
    ours, plain = predictor(module), predictor(module, False)
    before = ours.predict(images, KEYS)
    torch.testing.assert_close(before, plain.predict(images, KEYS))
    seen: list[int] = []
    inner = next(part for part in module.modules() if isinstance(part, nn.Linear))
    hook = inner.register_forward_hook(lambda _module, args, output: seen.append(len(args[0])) or 2 * output)  # type: ignore[func-returns-value]
    torch.testing.assert_close(ours.predict(images, KEYS), plain.predict(images, KEYS))
    assert not torch.allclose(ours.predict(images, KEYS), before)
    assert seen == [5, 5, 2] * 3
    hook.remove()
    torch.testing.assert_close(ours.predict(images, KEYS), before)
    assert set(graphs) == {5}


@pytest.mark.parametrize(
    "suite",
    [
        ("corruption", "--corruptions", "fog", "--severities", "4"),
        ("adversarial", "--attack", "pgd", "--eps", "1/255", "--steps", "2", "--audit", "false"),
        ("weight-noise",),
    ],
    ids=lambda suite: suite[0],
)
def test_the_record_is_that_of_a_plain_run_and_says_so(
    suite: tuple[str, ...], tmp_path: Path, graphs: list[int]
) -> None:
    run = (*SMALL, "--suite", *suite)
    assert bench(*run, "--out", tmp_path / "plain") == 0
    assert not graphs
    assert bench(*run, "--compile", "--out", tmp_path / "compiled") == 0
    assert set(graphs) == {5}
    plain, compiled = record(tmp_path / "plain"), record(tmp_path / "compiled")
    assert "compiled" not in plain["environment"]
    assert compiled["environment"]["compiled"] is True
    for ours, theirs in zip(compiled["conditions"], plain["conditions"], strict=True):
        assert ours["metrics"] == pytest.approx(theirs["metrics"], abs=1e-6)
    # They are two runs.
    assert {path.name for path in (tmp_path / "plain").iterdir()}.isdisjoint(
        path.name for path in (tmp_path / "compiled").iterdir()
    )


def test_stochastic_models_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--model", "dropped", "--limit", "4", "--compile", "--out", tmp_path) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert (
        last == "bench: dropped is stochastic, and only networks without random draws are compiled: leave --compile out"
    )
    assert not list(tmp_path.glob("*/record.json"))


def test_what_cannot_be_compiled_is_named(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        raise OSError("no compiler")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    with pytest.raises(UserError, match=r"^model 'tiny' .* cannot be compiled: .*no compiler.*; leave --compile out$"):
        predictor(Tiny(digits("test"))).predict(images, KEYS)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's own backend needs a C++ compiler")
def test_torchs_own_backend_predicts_the_same(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="inductor"))
    module = Tiny(digits("test"))
    torch.testing.assert_close(predictor(module).predict(images, KEYS), predictor(module, False).predict(images, KEYS))

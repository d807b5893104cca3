"""Measuring on a GPU: nothing of a condition waits for the device before its end. Here the CPU stands for one."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from stressbench.cli import main
from stressbench.datasets.digits import digits
from stressbench.execution import measure

SMALL = ("--corruptions", "fog,jpeg_compression", "--severities", "4", "--limit", "12", "--batch-size", "4")


RULED_OUT = int((digits("test").labels[:12] >= 3).sum())


def bench(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["run", *map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


class Reads(TorchDispatchMode):
    """Notes the functions in which a number is read from a tensor, for which a GPU would have to be waited for."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.name() in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select"):
            ours = [frame.name for frame in traceback.extract_stack() if "stressbench" in frame.filename]
            self._found.append(ours[-1])
        return function(*args, **(kwargs or {}))


def reads(out: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The functions that read numbers while batches of the corruption suite are measured."""
    found: list[str] = []
    measured = measure.Measurement._measured

    def noted(self: Any, *arguments: Any) -> Any:
        with monkeypatch.context() as patch, Reads(found):
            patch.setattr(self, "_after_batch", None)  # the model is judged once a run
            return measured(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(measure.Measurement, "_measured", noted)
        assert bench("--model", "tiny,width=4", *SMALL, "--out", out) == 0
    return set(found) - {"brier_score"}  # `one_hot` looks at its numbers on the CPU alone


def test_no_number_is_read_while_a_condition_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reads(tmp_path / "cpu", monkeypatch) == {"require_usable"}
    monkeypatch.setattr(measure, "_waits", lambda _device: True)
    assert reads(tmp_path / "gpu", monkeypatch) == set()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("wrong,answer=nan", "returned NaN or infinite logits for 1 of 4 images; check its weights"),
        ("masked,known=0", "returned NaN or infinite logits for 4 of 4 images; check its weights"),
        ("masked,known=3", f"returned a logit of −∞ for the label of {RULED_OUT} of 12 images, whose 'nll' is"),
    ],
)
def test_numbers_that_are_not_finite_are_named_at_the_end(
    model: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "_waits", lambda _device: True)
    assert bench("--model", model, *SMALL, "--out", tmp_path) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("bench: under none, severity 0, model ")
    assert words in last
    assert not list(tmp_path.glob("*/tables/*"))

"""Two plugins of one name, and plugins that fail in every way: told in a line on the command line, the others go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import write_distribution
from stressbench.cli import main

# Offered by two distributions under the same names; CLASS is what its model always answers, and the shade of its suite.
TWIN = """
import torch
from torch import nn
from stressbench.contracts import Dataset, Metric, Stressed, StressSuite, Classification
from stressbench.contracts import InMemory

class Net(nn.Module):
    def __init__(self, dataset, answer: int = CLASS):
        super().__init__()
        self.answer = nn.Parameter(torch.full((), float(answer)))
        self.classes = dataset.classes

    def forward(self, images):
        logits = torch.zeros(len(images), self.classes) + 0 * images.mean((1, 2, 3)).unsqueeze(1)
        logits[:, int(self.answer)] = 9
        return logits

class Dusk(StressSuite):
    name, version, benchmark = "dusk", "1", "patch"
    metrics = row_metrics = (Metric("error", "fraction", "lower"), Metric("light", "fraction", "higher"))
    def conditions(self):
        return [{"light": CLASS / 10}]
    def stress(self, condition, batch, model):
        return Stressed(batch.images * condition["light"], {"light": batch.images.mean((1, 2, 3)) * condition["light"]})
    def observe(self, condition, batch, log_probs):
        return {"error": (log_probs[0].argmax(-1) != batch.targets).float()}
    def score(self, conditions, tables):
        return [{"error": float(t["error"].mean()), "light": float(t["light"].mean())} for t in tables]
    def aggregate(self, conditions, rows):
        return rows[0]

def patch(split, data_dir, name):
    labels = torch.tensor([0, 1, 1, 2, 3, 3, 3, 3, 4, 4])
    pixels = torch.full((10, 3, 8, 8), 51 * CLASS, dtype=torch.uint8)
    return Dataset("patch", split, Classification(5), InMemory(pixels), InMemory(labels), (8, 8))
"""

FAULTY = """
from torch import nn
from stressbench.contracts import StressSuite
from stressbench_suites.corruption.suite import CorruptionSuite

class Panic(BaseException):
    '''What an extension in Rust raises.'''

ERRORS = {"error": RuntimeError("no\\nflux"), "exit": SystemExit("no licence"), "panic": Panic("index out of bounds"),
          "ctrl-c": KeyboardInterrupt()}

class Net(nn.Module):
    def __init__(self, dataset, when, what, untrained):
        super().__init__()
        self.head, self.when, self.what, self.untrained = nn.Linear(3, dataset.classes), when, what, untrained
        self.fail("build")

    def fail(self, when):
        if when == self.when:
            raise ERRORS[self.what]

    def forward(self, images):
        self.fail("training" if self.training else "pass")
        return self.head(images.mean((2, 3)))

def net(dataset, when: str = "never", what: str = "error", untrained: bool = False):
    return Net(dataset, when, what, untrained)

def undeclared(dataset):
    module = net(dataset)
    module.default_draws = "many"
    return module

class Whole(nn.Linear):
    def parts(self):
        raise ERRORS["error"]

def whole(dataset):
    return Whole(1, 1)

class Dusk(CorruptionSuite):
    name = "faulty-dusk"
    def __init__(self, when: str, what: str = "error"):
        super().__init__(corruptions=("fog",), severities=(1,))
        self.when, self.what = when, what
    def fail(self, when):
        if when == self.when:
            raise ERRORS[self.what]
    def unsupported(self, dataset):
        self.fail("unsupported")
    def conditions(self):
        self.fail("conditions")
        return super().conditions()
    def baseline(self, data):
        self.fail("baseline")
    def observe(self, *args):
        self.fail("observe")
        return super().observe(*args)
"""

# Datasets that break their contract, each in its own way.
DATASETS = """
import torch
from stressbench.contracts import Dataset, Classification
from stressbench.contracts import InMemory

def data(pixels=None, labels=None):
    pixels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8) if pixels is None else pixels
    labels = torch.arange(4) if labels is None else labels
    return Dataset("odd", "test", Classification(4), InMemory(pixels), InMemory(labels), (8, 8))

def floats(*words):
    return data(torch.rand(4, 3, 8, 8))

def larger(*words):
    return data(torch.zeros(4, 3, 9, 9, dtype=torch.uint8))

def fewer(*words):
    return data(labels=torch.arange(3))

def beyond(*words):
    return data(labels=torch.arange(1, 5))

def soft(*words):
    return data(labels=torch.ones(4))

def lost(*words):
    class Lost(InMemory):
        def read(self, start, stop):
            raise OSError("the disk\\nis gone")
    return Dataset("odd", "test", Classification(4), Lost(torch.zeros(4, 3, 8, 8)), InMemory(torch.arange(4)), (8, 8))
"""

IMPORTS = {
    "asks": "from stressbench.errors import UserError\nraise UserError('set ZOO_HOME to the checkpoints')",
    "raises": "raise RuntimeError('no\\nflux')",
    "exits": "import sys; sys.exit('no licence')",
    "panics": "class Panic(BaseException): pass\nraise Panic('index out of bounds')",
    "ctrl_c": "raise KeyboardInterrupt",
    "noisy": "print('hello from the import')\nfrom faulty_zoo import net",
}

SMALL = ("--corruptions", "fog", "--severities", "1", "--limit", "10", "--out", "runs")


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    site = tmp_path_factory.mktemp("site")
    for module, answer in (("north", 1), ("south", 3)):
        (site / f"{module}.py").write_text(TWIN.replace("CLASS", str(answer)))
        points = {"models": {"net": f"{module}:Net"}, "suites": {"dusk": f"{module}:Dusk"},
                  "datasets": {"patch": f"{module}:patch"}}  # fmt: skip
        write_distribution(site, module, {f"stressbench.{kind}": offered for kind, offered in points.items()})
    (site / "faulty_zoo.py").write_text(FAULTY)
    models = {"faulty": "faulty_zoo:net", "undeclared": "faulty_zoo:undeclared", "whole": "faulty_zoo:whole"}
    for name, text in IMPORTS.items():
        (site / f"import_{name}.py").write_text(text + "\n")
        models[f"import-{name}"] = f"import_{name}:net"
    suites = {"faulty-dusk": "faulty_zoo:Dusk"}
    (site / "faulty_data.py").write_text(DATASETS)
    datasets = {name: f"faulty_data:{name}" for name in ("floats", "larger", "fewer", "beyond", "soft", "lost")}
    offered = {"models": models, "suites": suites, "datasets": datasets}
    write_distribution(site, "faulty-zoo", {f"stressbench.{kind}": points for kind, points in offered.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        yield
    for name in [name for name in sys.modules if name in ("north", "south", "faulty_zoo")]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bench(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def records() -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(Path("runs").glob("*/record.json"))]


# --- two of one name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "--model", "net"], "model called 'net': write north/net or south/net"),
        (["run", "--model", "tiny", "--model", "net"], "model called 'net': write north/net or south/net"),
        (["run", "--model", "ensemble:tiny+net"], "model called 'net': write north/net or south/net"),
        (["run", "--model", "infer-noise:net"], "model called 'net': write north/net or south/net"),
        (["show", "net"], "model called 'net': write north/net or south/net"),
        (["train", "--model", "net"], "model called 'net': write north/net or south/net"),
        (["plugin", "check", "net"], "model called 'net': write north/net or south/net"),
        (["run", "--model", "tiny", "--suite", "dusk"], "suite called 'dusk': write north/dusk or south/dusk"),
        (["run", "--dataset", "patch"], "dataset called 'patch': write north/patch or south/patch"),
        (
            ["train", "--model", "tiny", "--dataset", "patch"],
            "dataset called 'patch': write north/patch or south/patch",
        ),
    ],
)
def test_a_shared_name_alone_is_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert bench(*arguments) == 2
    assert capsys.readouterr().err == f"bench: 2 distributions offer a {told}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("module", "answer", "error"), [("north", 1, 0.8), ("south", 3, 0.6)])
def test_the_one_that_is_picked_is_the_one_that_runs(
    module: str, answer: int, error: float, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--suite", f"{module}/dusk", "--model", f"{module}/net", "--dataset", f"{module}/patch")
    assert bench("run", *words, "--out", "runs") == 0
    (record,) = records()
    assert (record["model"]["spec"], record["model"]["distribution"]) == (f"{module}/net", module)
    assert (record["suite"]["name"], record["suite"]["distribution"]) == ("dusk", module)
    # Pixels are a fifth of the dataset's number, and the suite's tenth of its own darkens them.
    assert record["metrics"] == pytest.approx({"error": error, "light": answer / 5 * answer / 10}, rel=1e-5)
    capsys.readouterr()
    assert bench("show", str(next(Path("runs").iterdir()))) == 0
    assert f"{module}/net · dusk · patch" in capsys.readouterr().out
    assert bench("show", f"{module}/net") == 0
    assert f"model 'net' of {module} 1.0, for digits" in capsys.readouterr().out
    assert bench("plugin", "check", f"{module}/net") == 2  # its gradient is zero
    assert capsys.readouterr().out.startswith(f"model 'net' of {module} 1.0\n")


def test_the_right_ones_are_inside_ensembles_and_wrappers() -> None:
    words = (
        *SMALL,
        "--model",
        "ensemble:north/net+south/net",
        "--model",
        "infer-transform:(south/net,answer=2)",
    )
    assert bench("run", *words) == 0
    runs = {
        run["model"]["spec"]: run for path in Path("runs").glob("*/run.json") for run in [json.loads(path.read_text())]
    }
    ensemble = runs["ensemble:north/net+south/net"]
    assert [plugin[:2] for plugin in ensemble["model"]["plugins"]] == [
        ["ensemble", "stressbench"], ["net", "north"], ["net", "south"]]  # fmt: skip
    assert ensemble["draws"] == 2


def test_a_leaderboard_keeps_them_apart(capsys: pytest.CaptureFixture[str]) -> None:
    for module in ("north", "south"):
        words = ("--suite", f"{module}/dusk", "--model", f"{module}/net", "--dataset", "north/patch")
        assert bench("run", *words, "--out", module) == 0
        # As it was made where only this one is installed.
        (path,) = Path(module).glob("*/record.json")
        path.write_text(path.read_text().replace(f'"{module}/net"', '"net"'))
        assert bench("leaderboard", "add", str(path)) == 0
    assert bench("leaderboard", "build") == 0
    assert len(list(Path("leaderboard/records/patch/dusk").iterdir())) == 2
    page = Path("leaderboard/README.md").read_text()
    assert "## north/dusk on patch" in page
    assert "## south/dusk on patch" in page


def test_models_of_one_name_in_one_table_are_told_apart() -> None:
    for module in ("north", "south"):
        words = ("--suite", "north/dusk", "--model", f"{module}/net", "--dataset", "north/patch", "--out", module)
        assert bench("run", *words) == 0
        (path,) = Path(module).glob("*/record.json")
        path.write_text(path.read_text().replace(f'"{module}/net"', '"net"'))
        assert bench("leaderboard", "add", str(path)) == 0
    assert bench("leaderboard", "build") == 0
    page = Path("leaderboard/README.md").read_text()
    assert "## north/dusk on patch" in page
    assert "[net (north)]" in page
    assert "[net (south)]" in page


def test_a_wrong_distribution_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("show", "noth/net") == 2
    assert "no model, suite, dataset or recipe called 'noth/net': did you mean 'north/net'?" in capsys.readouterr().err


# --- those that fail ------------------------------------------------------------------------------------------

_FLUX, _LICENCE, _BOUNDS = "RuntimeError: no flux", "SystemExit: no licence", "Panic: index out of bounds"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("import-raises", ["model 'import-raises' of faulty-zoo 1.0 cannot be imported", _FLUX]),
        ("import-exits", ["model 'import-exits' of faulty-zoo 1.0 cannot be imported", _LICENCE]),
        ("import-panics", ["model 'import-panics' of faulty-zoo 1.0 cannot be imported", _BOUNDS]),
        ("import-asks", ["'import-asks' of faulty-zoo 1.0 cannot be imported", "set ZOO_HOME to the checkpoints"]),
        ("faulty,when=build", ["model 'faulty' of faulty-zoo 1.0 failed while it was built", _FLUX]),
        ("faulty,when=build,what=exit", ["faulty-zoo 1.0 failed while it was built", _LICENCE]),
        ("faulty,when=pass", ["under none, severity 0, model 'faulty' of faulty-zoo 1.0 failed on 10 images", _FLUX]),
        ("faulty,when=pass,what=exit", ["faulty-zoo 1.0 failed on 10 images", _LICENCE]),
        ("faulty,when=pass,what=panic", ["faulty-zoo 1.0 failed on 10 images", _BOUNDS]),
        ("faulty,when=training,untrained=true", ["faulty-zoo 1.0 failed while it was trained", _FLUX]),
        ("faulty,when=pass,untrained=true", ["faulty-zoo 1.0 fails on images of 32×32 pixels", _FLUX]),
        ("undeclared", ["model 'undeclared' of faulty-zoo 1.0", "ValueError"]),
        ("whole", ["model 'whole' of faulty-zoo 1.0", _FLUX]),
        ("ensemble:tiny+(faulty,when=pass)", ["model 'faulty' of faulty-zoo 1.0 failed on 10 images", _FLUX]),
        ("ensemble:import-exits+tiny", ["model 'import-exits' of faulty-zoo 1.0 cannot be imported", _LICENCE]),
        ("infer-noise:(faulty,when=pass)", ["model 'faulty' of faulty-zoo 1.0 fails on images", _FLUX]),
        ("infer-transform:(faulty,when=pass)", ["with model 'faulty' of faulty-zoo 1.0 failed on 10 images", _FLUX]),
    ],
)
def test_a_model_that_fails_is_named_and_others_go_on(
    spec: str, words: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("run", *SMALL, "--model", spec, "--model", "tiny") == 2
    assert [record["model"]["spec"] for record in records()] == ["tiny"]
    told = capsys.readouterr().err
    line = next(line for line in told.splitlines() if line.startswith("bench: "))
    for word in words:
        assert word in line
    (listed,) = json.loads(Path("runs/failures.json").read_text())
    assert listed["error"] == line.removeprefix("bench: ")


@pytest.mark.parametrize("place", ["unsupported", "conditions", "baseline", "observe"])
@pytest.mark.parametrize(("what", "why"), [("error", _FLUX), ("exit", _LICENCE)])
def test_a_suite_that_fails_is_named_and_others_go_on(
    place: str, what: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    suites = ("--suite", f"faulty-dusk,when={place},what={what}", "--suite", "corruption,corruptions=fog,severities=1")
    assert bench("run", "--limit", "10", "--out", "runs", "--model", "tiny", *suites) == 2
    assert [record["suite"]["name"] for record in records()] == ["corruption"]
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("bench: "))
    assert "suite 'faulty-dusk' of faulty-zoo 1.0 failed" in line
    assert why in line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("floats", "dataset 'odd' read (4, 3, 8, 8) of torch.float32; it must read (4, 3, 8, 8) of torch.uint8"),
        ("larger", "dataset 'odd' read (4, 3, 9, 9) of torch.uint8; it must read (4, 3, 8, 8)"),
        ("fewer", "dataset 'fewer' of faulty-zoo 1.0 has 3 targets for 4 images"),
        ("beyond", "dataset 'beyond' of faulty-zoo 1.0 has labels from 1 to 4; of 4 classes they must be 0 … 3"),
        ("soft", "dataset 'soft' of faulty-zoo 1.0 has labels (4,) of torch.float32"),
        ("lost", "dataset 'odd' failed to read images 0 … 3: OSError: the disk is gone"),
    ],
)
def test_a_dataset_that_gives_something_else_is_refused(
    name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("run", "--model", "tiny", "--suite", "north/dusk", "--dataset", name) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not records()


@pytest.mark.parametrize("spec", ["import-ctrl_c", "faulty,when=build,what=ctrl-c", "faulty,when=pass,what=ctrl-c"])
def test_ctrl_c_inside_a_plugin_stops_all(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("run", *SMALL, "--model", spec, "--model", "tiny") == 130
    assert not records()
    assert "bench: interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("show",), ("train", "--model"), ("plugin", "check")])
@pytest.mark.parametrize("spec", ["import-exits", "faulty,when=build,what=panic"])
def test_every_command_says_so(command: Sequence[str], spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*command, spec) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench: model '")
    assert "of faulty-zoo 1.0" in line


def test_what_a_plugin_prints_stays_out_of_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    sys.modules.pop("import_noisy", None)
    assert bench("run", *SMALL, "--model", "import-noisy", "--json") == 0
    shown = capsys.readouterr()
    (line,) = shown.out.splitlines()
    assert json.loads(line)["model"]["spec"] == "import-noisy"
    assert "hello from the import" in shown.err


def test_listing_imports_none_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    sys.modules.pop("faulty_zoo", None)
    assert bench("list") == 0
    assert "import-exits" in capsys.readouterr().out
    assert "faulty_zoo" not in sys.modules

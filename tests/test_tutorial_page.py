"""docs/tutorial.md: a user's path from a folder of images and checkpoints to a submission, executed in order."""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import io
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torchvision import datasets, transforms

from conftest import ROOT
from stressbench import record
from stressbench.cli import main

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@dataclass
class Walked:
    """The folder after all commands, and what each printed."""

    folder: Path
    printed: dict[str, str] = field(default_factory=dict)

    def of(self, start: str) -> list[str]:
        """What the commands that begin with these words printed."""
        return [text for command, text in self.printed.items() if command.startswith(start)]


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=e@localhost")
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Walked:
    """The page, from its blocks alone, beside a clone of a project with a leaderboard; there is no `gh`."""
    found = Walked(tmp_path_factory.mktemp("tutorial"))
    origin = found.folder / "origin"
    git(found.folder, "init", "--quiet", "--initial-branch", "main", str(origin))
    (origin / "leaderboard" / "records").mkdir(parents=True)
    (origin / "leaderboard" / "records" / ".keep").touch()
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message", "Start")
    git(found.folder, "clone", "--quiet", str(origin), "stressbench")
    for block in blocks("python"):
        (found.folder / block.splitlines()[0].removeprefix("# ")).write_text(block, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found.folder)
        patch.setattr("shutil.which", lambda _program: None)
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "n")
            patch.setenv(f"GIT_{role}_EMAIL", "e@localhost")
        for command in (line for block in blocks("sh") for line in block.splitlines()):
            found.printed[command] = run(command)
    return found


def run(command: str) -> str:
    """What a command prints; it succeeds."""
    program, *words = shlex.split(command)
    words = [name for word in words for name in (sorted(glob.glob(word)) or [word])]  # noqa: PTH207
    if program == "python":
        subprocess.run([sys.executable, *words], check=True, timeout=300)
        return ""
    assert program == "bench"
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 0, command
    return printed.getvalue()


def test_records_have_the_numbers_of_the_checkpoints(walked: Walked) -> None:
    """The accuracy on clean images, computed with torchvision and the user's own class."""
    spec = importlib.util.spec_from_file_location("tutorial_nets", walked.folder / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    nets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nets)
    seen = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(32), transforms.ToTensor()])
    pictures = datasets.ImageFolder(walked.folder / "shapes" / "test", seen)
    images = torch.stack([image for image, _ in pictures])
    found = {one.model.name: one for one in map(record.load, walked.folder.glob("runs/shapes-corruption-*"))}
    assert len(found) == 3
    for name, file, width in (("CNN", "narrow", 8), ("CNN, medium", "medium", 16), ("CNN, wide", "wide", 24)):
        kept = torch.load(walked.folder / f"{file}.pt", weights_only=True)["state_dict"]
        assert all(key.startswith("module.") for key in kept)
        net = nets.Net(width=width).eval()
        net.load_state_dict({key.removeprefix("module."): value for key, value in kept.items()})
        with torch.no_grad():
            wrong = (net(images).argmax(dim=1) != torch.tensor(pictures.targets)).sum().item()
        assert found[name].metrics["clean_error"] == pytest.approx(wrong / len(images))
        assert found[name].findings == []


def test_what_the_page_says_is_seen(walked: Walked) -> None:
    (dry,) = [text for command, text in walked.printed.items() if command.endswith("--dry-run")]
    assert "120 of shapes" in dry
    (probabilities,) = [text for command, text in walked.printed.items() if command.endswith("-q")]
    assert "doubtful: probability-outputs" in probabilities
    assert walked.of("bench runs rm")[0].startswith("deleted ")
    listed = next(text for command, text in walked.printed.items() if command == "bench runs")
    assert listed.count("  complete  ") == 6
    assert "Softmax" not in listed.replace("LogSoftmax", "")
    assert "A  CNN, medium  (" in walked.of("bench compare")[0]


def test_the_table_the_figures_and_the_report(walked: Walked) -> None:
    (latex,) = walked.of("bench table")
    rows = [line for line in latex.splitlines() if line.startswith("CNN")]
    assert {row.split(" & ")[0] for row in rows} == {"CNN", "CNN, medium", "CNN, wide"}
    for row in rows:
        assert row.count(" & ") == 3
        assert " -- &" not in row.replace(r"\\", "&")  # each model has been through both suites
    figures = {path.name for path in (walked.folder / "figures").iterdir()}
    assert {"by-severity.svg", "heat-map-by-severity.png", "reliability.png"} <= figures
    report = (walked.folder / "report.html").read_text(encoding="utf-8")
    assert "<h2>uncertainty on shapes, 120 images, generated stress</h2>" in report


def test_the_branch_of_the_submission(walked: Walked) -> None:
    (said,) = walked.of("bench leaderboard submit")
    assert said.splitlines()[0] == "now run:"
    clone = walked.folder / "stressbench"
    assert git(clone, "branch", "--show-current").startswith("result-file-nets.py-")
    (path,) = (clone / "leaderboard" / "records" / "shapes" / "corruption").glob("*.json")
    assert record.load(path).model.name == "CNN, wide"
    assert (path.with_suffix("") / "nets.py").read_text() == (walked.folder / "nets.py").read_text()

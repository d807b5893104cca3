"""`bench weights`: trained weights that come with the leaderboard."""

from __future__ import annotations

from pathlib import Path

import click

_ROOT = click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("leaderboard"),
    show_default=True,
    help="The leaderboard's folder, which has the index.",
)


@click.group()
def weights() -> None:
    """Trained weights that come with the leaderboard, with checksums."""


@weights.command("list")
@_ROOT
def list_(root: Path) -> None:
    """Show which weights there are, how they were trained, and where their files are."""
    from stressbench._util.tabular import markdown
    from stressbench.execution import pretrained

    def row(entry: pretrained.Entry) -> dict[str, str]:
        training = entry.training
        here = (root / pretrained.FOLDER / entry.path).exists()
        return {
            "dataset": entry.dataset,
            "model": entry.model,
            "seed": str(entry.seed),
            "recipe": f"{training['recipe']}, {training['epochs']} epochs",
            "accuracy": f"{float(training['accuracy']):.2%} ({training['measured_on']})",
            "MB": f"{entry.size / 1e6:.1f}",
            "SHA-256": f"{entry.sha256[:12]}…",
            "file": "in the repository" if here else entry.url or "missing",
        }

    rows = [row(entry) for entry in pretrained.read(root)]
    click.echo(markdown(rows, ("dataset", "model", "recipe", "file")) if rows else "no weights are listed")


@weights.command()
@click.argument("model", required=False)
@click.option("--dataset", help="Only the weights for this dataset.")
@click.option("--replace", is_flag=True, help="Replace other weights of the same model, dataset and seed.")
@_ROOT
def pull(model: str | None, dataset: str | None, replace: bool, root: Path) -> None:
    """Put the listed weights of MODEL, or all, where `bench run` finds them."""
    from stressbench._util.terminal import Screen
    from stressbench.execution import pretrained
    from stressbench.spec import parse

    wanted = None if model is None else str(parse(model))
    for entry in pretrained.chosen(pretrained.read(root), wanted, dataset):
        click.echo(pretrained.pull(entry, root, Screen(), replace))


@weights.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--url", help="Where the file is published, for one that is too large for the repository.")
@click.option("--copy/--no-copy", default=True, show_default=True, help="Copy the file beside the index.")
@_ROOT
def add(files: tuple[Path, ...], url: str | None, copy: bool, root: Path) -> None:
    """List files that `bench train` wrote."""
    from stressbench.execution import pretrained

    if url is not None and len(files) > 1:
        raise click.UsageError("--url is the address of one file: add the files one by one.")
    for file in files:
        entry = pretrained.add(file, root, url, copy)
        click.echo(f"{entry.model} on {entry.dataset}, seed {entry.seed}: sha256 {entry.sha256}")

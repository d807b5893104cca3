"""`bench data`: fetch published sets, write generated ones, and look at them."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def data() -> None:
    """Fetch published stressed images, write generated ones to files, or look at them."""


@data.command()
@click.argument("name")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where to unpack it [default: the store].")
@click.option("--url", help="A mirror of the published tar; it must have the published md5 all the same.")
def pull(name: str, data_dir: Path | None, url: str | None) -> None:
    """Fetch and unpack NAME: cifar10-c, cifar100-c or cifar10-p. Run it again to go on where it stopped."""
    from stressbench.datasets import pull as pulling
    from stressbench.terminal import Screen

    pulled = pulling.pull(name, Screen(), data_dir, url)
    click.echo(f"{pulled.folder}{' is there already' if pulled.already else ''}")


@data.command()
@click.option("--dataset", required=True, help="The clean images.")
@click.option("--corruption", "corruptions", multiple=True, help="Only this one; may be repeated.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The folder to write to.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many images.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the clean images are.")
@click.option("--dataset-name", help="The name of a dataset of your own.")
@click.option("--batch-size", type=click.IntRange(min=1), default=256, show_default=True)
def corrupt(
    dataset: str,
    corruptions: tuple[str, ...],
    out: Path,
    limit: int | None,
    seed: int,
    data_dir: Path | None,
    dataset_name: str | None,
    batch_size: int,
) -> None:
    """Write the corruption suite's images of a test split to files, in the layout of CIFAR-10-C."""
    from stressbench import registry
    from stressbench.datasets import export
    from stressbench.terminal import Screen

    suite = registry.suite("corruption", {"corruptions": ",".join(corruptions)} if corruptions else {})
    clean = registry.dataset(dataset, "test", data_dir, dataset_name)
    for path in export.corrupt(clean, suite, corruptions, out, Screen(), limit, seed, batch_size):
        click.echo(path)


@data.command()
@click.option(
    "--suite",
    metavar="NAME",
    help="A suite, with options as NAME,option=value [default: corruption, at one severity].",
)
@click.option("--dataset", default="digits", show_default=True, help="The clean images.")
@click.option(
    "--severity", type=click.IntRange(1, 5), help="Of suites with severities, only this [default without --suite: 3]."
)
@click.option("--model", metavar="NAME", help="The model that attacks look through, with options as in `bench run`.")
@click.option("--weights", multiple=True, type=click.Path(path_type=Path), help="Its weights, as in `bench run`.")
@click.option("--difference", is_flag=True, help="Show also what was added to the clean image, amplified.")
@click.option("--image", type=click.IntRange(min=0), default=0, show_default=True, help="Which test image.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The PNG file to write.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the clean images are.")
@click.option("--dataset-name", help="The name of a dataset of your own.")
def preview(
    suite: str | None,
    dataset: str,
    severity: int | None,
    model: str | None,
    weights: tuple[Path, ...],
    difference: bool,
    image: int,
    out: Path,
    seed: int,
    data_dir: Path | None,
    dataset_name: str | None,
) -> None:
    """Draw one test image under each condition of a suite, as a run with this seed shows it.

    A row is one kind of stress at its levels, or some frames of a sequence; what has one image each shares rows.
    """
    from stressbench import registry, session
    from stressbench.datasets.preview import sheet
    from stressbench.plan import Words
    from stressbench.terminal import Screen

    if weights and model is None:
        raise click.UsageError("--weights are a model's: name it with --model.")
    if suite is None:
        suite, severity = "corruption", severity or 3
    if severity is not None:
        suite = f"{suite},severities={severity}"
    clean = registry.dataset(dataset, "test", data_dir, dataset_name)
    module = None
    if model is not None:
        words = Words((suite,), (model,), dataset, data_dir, dataset_name, weights=weights)
        module = session.model(words, clean, Screen())
    click.echo(sheet(clean, suite, image, seed, out, module, difference))

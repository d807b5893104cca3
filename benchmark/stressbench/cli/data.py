"""`bench data`: fetch published sets, write generated ones, and look at them."""

from __future__ import annotations

from pathlib import Path

import click

from stressbench.cli import completion, options


@click.group()
def data() -> None:
    """Fetch published stressed images, write generated ones to files, or look at them."""


@data.command()
@click.argument("name")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where to unpack it [default: the store].")
@click.option("--url", help="A mirror of the published tar; it must have the published checksum all the same.")
def pull(name: str, data_dir: Path | None, url: str | None) -> None:
    """Fetch and unpack the published set NAME. Run it again to resume where it stopped.

    Sets: cifar10-c, cifar100-c, cifar10-p; imagenet-c-noise, -blur, -weather, -digital and -extra (62 GB together);
    imagenet-a, imagenet-r, imagenet-v2.
    """
    from stressbench._util.terminal import Screen
    from stressbench.datasets import pull as pulling

    pulled = pulling.pull(name, Screen(), data_dir, url)
    click.echo(f"{pulled.folder}{' is there already' if pulled.already else ''}")


@data.command()
@click.option("--dataset", required=True, shell_complete=completion.names("datasets"), help="The clean images.")
@click.option("--corruption", "corruptions", multiple=True, help="Only this one; may be repeated.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The folder to write to.")
@options.limit
@options.seed
@options.data_dir("Where the clean images are.")
@options.dataset_name
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
    from stressbench._util.terminal import Screen
    from stressbench.contracts import StressSuite
    from stressbench.datasets import export

    suite = registry.suite(options.SUITE, {"corruptions": ",".join(corruptions)} if corruptions else {})
    assert isinstance(suite, StressSuite), "ours"
    clean = registry.dataset(dataset, "test", data_dir, dataset_name)
    for path in export.corrupt(clean, suite, corruptions, out, Screen(), limit, seed, batch_size):
        click.echo(path)


@data.command(cls=options.SuiteCommand)
@click.option(
    "--suite",
    metavar="NAME",
    shell_complete=completion.names("suites"),
    help=f"A suite, with options as NAME,option=value [default: {options.SUITE}, at one severity].",
)
@options.suite_options
@options.dataset("The clean images.")
@click.option(
    "--severity", type=click.IntRange(1, 5), help="Of suites with severities, only this [default without --suite: 3]."
)
@click.option(
    "--model",
    metavar="NAME",
    shell_complete=completion.names("models"),
    help="The model that attacks look through, or whose dense predictions are drawn; options as in `bench run`.",
)
@options.weights("Its weights, as in `bench run`.")
@click.option("--difference", is_flag=True, help="Show also what was added to the clean image, amplified.")
@click.option("--image", type=click.IntRange(min=0), default=0, show_default=True, help="Which test image.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The PNG file to write.")
@options.seed
@options.data_dir("Where the clean images are.")
@options.dataset_name
def preview(
    suite: str | None,
    suite_options: dict[str, str],
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

    A row is one kind of stress at its levels, or some frames of a sequence; what has one image each shares rows. Of
    segmentation and dense regression, --model adds its target, prediction, error and uncertainty.
    """
    from stressbench import registry
    from stressbench._util.terminal import Screen
    from stressbench.contracts import Classification
    from stressbench.execution import session
    from stressbench.execution.request import RunRequest
    from stressbench.plots import dense
    from stressbench.plots.contact_sheet import sheet
    from stressbench.training.provide import provider

    if weights and model is None:
        raise click.UsageError("--weights are a model's: name it with --model.")
    if suite is None:
        suite = options.SUITE
        if "severities" not in suite_options:
            severity = severity or 3
    if severity is not None:
        suite_options = {**suite_options, "severities": str(severity)}
    clean = registry.dataset(dataset, "test", data_dir, dataset_name)
    if model is None:
        click.echo(sheet(clean, suite, image, seed, out, None, difference, suite_options))
        return
    request = RunRequest((suite,), (model,), dataset, data_dir, dataset_name, weights=weights)
    if isinstance(clean.task, Classification):
        module = session.model(request, clean, Screen(), provider)
        click.echo(sheet(clean, suite, image, seed, out, module, difference, suite_options))
        return
    if difference:
        raise click.UsageError(f"--difference draws images alone, and --model the predictions of {clean.task.name}.")
    predictor = session.predictor(request, clean, Screen(), provider)
    click.echo(dense.picture(clean, suite, image, seed, out, predictor, suite_options))


@data.group()
def cache() -> None:
    """Look at the decoded images that runs keep on disk, or remove them."""


@cache.command(name="ls")
def list_cache() -> None:
    """List what was decoded, with its size and its place."""
    from stressbench.datasets import decoded

    found = decoded.entries()
    for one in found:
        click.echo(f"{one.name}  {len(one):,} images  {one.bytes / 1e9:.1f} GB  {one.folder}")
    if not found:
        click.echo(f"no decoded images in {decoded.cache()}")


@cache.command(name="rm")
def remove_cache() -> None:
    """Remove all of it. Runs decode their images again; no number depends on it."""
    from stressbench.datasets import decoded

    click.echo(f"removed {decoded.remove() / 1e9:.1f} GB")

"""The options that several commands share, their defaults, and options made from the signatures of suites."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click

from stressbench.cli import completion
from stressbench.cli.sections import SectionedCommand
from stressbench.errors import BrokenPlugin, UserError, did_you_mean

SUITE = "corruption"
MODEL = "resnet18-smooth"
DATASET = "digits"
_SAMPLES = {"segmentation": "scenes", "depth": "scenes-depth", "super-resolution": "photos"}

MOST_SEED = 2**31 - 1
PATH = click.Path(path_type=Path)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


_EXAMPLES = "For example cifar100, or imagefolder,size=64."


def dataset(text: str = _EXAMPLES, default: str | None = DATASET) -> Decorator:
    return click.option(
        "--dataset",
        default=default,
        show_default=default is not None,
        help=text,
        shell_complete=completion.names("datasets"),
    )


dataset_of_suite = dataset(f"{_EXAMPLES} [default: {DATASET}, or {_SAMPLES['segmentation']} for dense suites]", None)


def sample(suite: str) -> str:
    """The embedded dataset that a suite measures where none is named: one of its tasks.

    Raises `UserError` for a suite that does not exist.
    """
    from stressbench import registry
    from stressbench.execution.request import ALL
    from stressbench.spec import parse

    if suite == ALL:
        return DATASET
    try:
        factory = registry.find("suites", parse(suite).name).load()
    except BrokenPlugin:  # the run says so, and goes on with the other suites
        return DATASET
    tasks: frozenset[str] = getattr(factory, "tasks", frozenset())  # absent from a factory function
    if "classification" in tasks:
        return DATASET
    return next((name for task, name in _SAMPLES.items() if task in tasks), DATASET)


def data_dir(text: str = "The folder of the data.") -> Decorator:
    return click.option("--data-dir", type=PATH, help=text)


dataset_name = click.option("--dataset-name", help="What records call a dataset of your own.")
device = click.option("--device", help="cpu or cuda [default: a GPU if there is one].")
batch_size = click.option("--batch-size", type=click.IntRange(min=1), help="Images at a time.")
limit = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N test images.")
seed = click.option(
    "--seed",
    type=click.IntRange(0, MOST_SEED),
    default=0,
    show_default=True,
    help="Decides generated stress and a stochastic model's draws.",
)


def _named(_context: click.Context, _option: click.Parameter, given: Sequence[str]) -> Sequence[str]:
    """Display names."""
    if not given:
        return given
    from stressbench.record import display_name

    for text in given:
        try:
            display_name(text)
        except ValueError as error:
            raise click.BadParameter(f"invalid name {text!r}: {error}") from error
    return given


def by_model(context: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    """Display names by model, each given as MODEL=TEXT; a model's own options have signs of equality, too."""
    pairs = [text.rpartition("=") for text in given]
    for text, (model, _, _) in zip(given, pairs, strict=True):
        if not model:
            raise click.BadParameter(f"{text!r} is not MODEL=TEXT, as 'resnet20=ResNet-20'")
    _named(context, option, [name for _, _, name in pairs])
    return {model: name for model, _, name in pairs}


by = click.option(
    "--by",
    metavar="NAME",
    callback=lambda context, option, given: given and _named(context, option, [given])[0],
    help="Your name, where the record is somebody else's: it then counts as replayed by another.",
)


def _metrics(_context: click.Context, _option: click.Parameter, value: str) -> Sequence[str]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


metrics = click.option(
    "--metrics",
    metavar="NAME,NAME,…",
    default="",
    callback=_metrics,
    help="The columns, in this order [default: the first two known ones of each suite].",
)
names = click.option(
    "--name",
    "names",
    multiple=True,
    callback=_named,
    metavar="TEXT",
    help="What legends and tables call the model; of several, one for each, in their order.",
)
labels = click.option(
    "--label",
    "labels",
    multiple=True,
    callback=_named,
    metavar="TEXT",
    help="What to call a run here; of several, one for each, in their order.",
)


def _shard(_context: click.Context, _option: click.Parameter, value: str | None) -> Any:
    """A part of N, as 2/8."""
    if value is None:
        return None
    from stressbench.execution.request import Shard

    index, slash, count = value.partition("/")
    if not (slash and all(word.isascii() and word.isdigit() and len(word) < 9 for word in (index, count))):
        raise click.BadParameter(f"'{value}' is not a part: write, for example, 2/8 for the second of eight")
    if not 1 <= int(index) <= int(count):
        raise click.BadParameter(f"'{value}' is not a part: the parts are 1/{count} … {count}/{count}")
    return Shard(int(index), int(count))


def computing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of `Computing`, as one argument, and --shard and --timeout."""

    @functools.wraps(command)
    def wrapper(*args: Any, executor: Any, workers: int | None, address: str | None, **given: Any) -> Any:
        from stressbench.execution.request import Computing

        return command(*args, computing=Computing(executor, workers, address), **given)

    for option in (
        click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help=_TIMEOUT),
        click.option("--shard", callback=_shard, metavar="I/N", help=_SHARD),
        click.option("--address", help="Of a Ray cluster [default: one is started here]."),
        click.option("--workers", type=click.IntRange(min=1), help="Of Ray [default: one a GPU, or for four cores]."),
        click.option(
            "--executor",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Who computes: this process, or workers of Ray.",
        ),
    ):
        wrapper = option(wrapper)
    return wrapper


_TIMEOUT = "What building a model, or a minute's range of a condition, may take; then that run fails and others go on."
_SHARD = "Only part I of N of the conditions, as a job array has it; see `bench merge`."

out = click.option("--out", type=PATH, default=Path("runs"), show_default=True, help="The folder of run folders.")
root = click.option(
    "--root", type=PATH, default=Path("leaderboard"), show_default=True, help="The leaderboard's folder."
)


def weights(text: str) -> Decorator:
    return click.option("--weights", multiple=True, type=PATH, help=text)


# --- options of suites ----------------------------------------------------------------------------------------

_PAIRS = "suite_options"


def _pairs(_context: click.Context, _option: click.Parameter, given: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in given:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals and value):
            raise click.BadParameter(f"'{text}' is not an option: write KEY=VALUE")
        pairs.append((key.replace("-", "_"), value))
    return pairs


suite_options = click.option(
    "-o",
    "--option",
    _PAIRS,
    multiple=True,
    callback=_pairs,
    metavar="KEY=VALUE",
    help="An option of the suites, also written --KEY VALUE; may be repeated. `bench show SUITE` lists a suite's "
    "options.",
)


class SuiteCommand(SectionedCommand):
    """A command with --suite and `suite_options`, which takes each option of the suites that are named as its own.

    `--eps 2/255` is then equivalent to `-o eps=2/255`. The suites are imported only where an option is given that the
    command does not have, so that --help stays fast.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # a shell asks what may follow: nothing is imported for that
            return super().parse_args(ctx, args)
        parser = self.make_parser(ctx)
        parser.ignore_unknown_options = True
        given, rest, _ = parser.parse_args(list(args))
        # The parser takes words that it does not know for what a command's argument is.
        taken = [given.get(str(p.name)) for p in self.params if isinstance(p, click.Argument)]
        if any(word.startswith("--") for word in chain(rest, *(words for words in taken if isinstance(words, tuple)))):
            own = {option for parameter in self.params for option in parameter.opts}
            ctx.meta[__name__] = [
                click.Option([f"--{name.replace('_', '-')}", f"suite_{name}"], multiple=True)
                for name in _signatures(self._suites(given))
                if f"--{name.replace('_', '-')}" not in own
            ]
        try:
            remaining = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            suites = self._suites(given)
            _signatures(suites, broken_too=True)  # it may be an option of one that cannot be imported: report that
            known = [option for parameter in self.get_params(ctx) for option in parameter.opts]
            raise click.UsageError(
                f"no option {error.option_name} in `{ctx.command_path}` or in {', '.join(suites)}: "
                f"{did_you_mean(error.option_name, known)}`bench show {suites[0]}` lists the suite's options",
                ctx,
            ) from error
        pairs = ctx.params[_PAIRS]
        for option in ctx.meta.get(__name__, ()):
            pairs += [(option.name.removeprefix("suite_"), value) for value in ctx.params.pop(option.name)]
        ctx.params[_PAIRS] = _joined(pairs, self._suites(ctx.params)) if pairs else {}
        return remaining

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *ctx.meta.get(__name__, ())]

    def _suites(self, given: dict[str, Any]) -> Sequence[str]:
        parameter = next(parameter for parameter in self.params if "--suite" in parameter.opts)
        named = given.get(str(parameter.name)) or SUITE
        return [named] if isinstance(named, str) else named


def _signatures(suites: Iterable[str], broken_too: bool = False) -> dict[str, bool]:
    """The options of suites, and whether one takes several values.

    A suite that cannot be imported is skipped, because a run continues without it; `broken_too` raises its error.
    """
    from stressbench import registry
    from stressbench.execution.request import ALL
    from stressbench.spec import parse

    found: dict[str, bool] = {}
    for text in registry.names("suites") if ALL in suites else suites:
        suite = parse(text).name
        try:
            for name, option in registry.options("suites", suite).items():
                found[name] = found.get(name, False) or registry.takes_several("suites", suite, option)
        except BrokenPlugin:
            if broken_too:
                raise
    return found


def _joined(pairs: Sequence[tuple[str, str]], suites: Iterable[str]) -> dict[str, str]:
    """One text an option: the values of one that takes several are joined, each with its own options in brackets."""
    signatures = _signatures(suites)
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    joined = {}
    for name, several in values.items():
        if signatures.get(name):
            several = ["+".join(f"({value})" if "=" in value else value for value in several)]
        if len(several) > 1:
            raise UserError(f"option '{name}' takes one value, not {len(several)}: specify it once")
        (joined[name],) = several
    return joined

"""The command line: `bench`. A file a command: each parses, prints and exits, and imports nothing heavy at its top."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from stressbench import __version__
from stressbench.cli import door
from stressbench.cli.acquire import acquire
from stressbench.cli.compare import compare
from stressbench.cli.data import data
from stressbench.cli.doctor import doctor
from stressbench.cli.leaderboard import leaderboard
from stressbench.cli.listing import list_
from stressbench.cli.merge import merge
from stressbench.cli.plot import plot
from stressbench.cli.plugin import plugin
from stressbench.cli.report import report
from stressbench.cli.run import run
from stressbench.cli.runs import runs
from stressbench.cli.show import show
from stressbench.cli.sweep import sweep
from stressbench.cli.table import table
from stressbench.cli.train import train
from stressbench.cli.weights import weights


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="stressbench")
@click.option("--debug", is_flag=True, help="Show the traceback of what goes wrong; may stand anywhere.")
def cli(debug: bool) -> None:  # read from the arguments before they are parsed
    """How image classifiers and their uncertainty hold up under stress.

    \b
    bench run                                      the embedded sample, one model, a minute or two
    bench run --suite corruption --model resnet18-smooth --dataset cifar100
    bench list                                     the models, suites and datasets that are installed
    bench show resnet18-smooth                     a model's options, size and locations
    bench compare runs/A runs/B                    which differences are more than noise
    bench table runs/* --latex                     one table of models and metrics
    bench plot runs/A runs/B --out figures         their figures
    """


for _command in (
    run,
    runs,
    merge,
    list_,
    show,
    compare,
    table,
    plot,
    report,
    data,
    train,
    acquire,
    weights,
    sweep,
    plugin,
    leaderboard,
    doctor,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit; `door` says with which code."""
    words, debug = door.split_debug(sys.argv[1:] if arguments is None else arguments)
    try:
        code = door.close(lambda: cli.main(words, prog_name="bench", standalone_mode=False), debug)
    except KeyboardInterrupt:  # a second one, while the first was reported
        code = 130
    if arguments is None:
        door.leave(code)
    sys.exit(code)

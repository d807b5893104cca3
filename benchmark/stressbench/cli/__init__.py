"""The command line: `bench`. A file a command: each parses, prints and exits, and imports nothing heavy at its top."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from stressbench import __version__
from stressbench.cli.compare import compare
from stressbench.cli.data import data
from stressbench.cli.leaderboard import leaderboard
from stressbench.cli.listing import list_
from stressbench.cli.plot import plot
from stressbench.cli.plugin import plugin
from stressbench.cli.run import run
from stressbench.cli.show import show
from stressbench.cli.sweep import sweep
from stressbench.cli.train import train
from stressbench.errors import Interrupted, UserError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="stressbench")
def cli() -> None:
    """How image classifiers and their uncertainty hold up under stress.

    \b
    bench run                                      the embedded sample, one model, a minute or two
    bench run --suite corruption --model resnet18-smooth --dataset cifar100
    bench list                                     the models, suites and datasets that are installed
    bench show resnet18-smooth                     a model's options, size and locations
    bench compare runs/A runs/B                    which differences are more than noise
    bench plot runs/A runs/B --out figures         their figures
    """


for _command in (run, list_, show, compare, plot, data, train, sweep, plugin, leaderboard):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; every fault of the user's leaves here, as one line on stderr and exit code 2."""
    try:
        code = cli.main(arguments, prog_name="bench", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()  # a group without a command: the help says which there are
        code = 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "bench"
        code = _fail(f"{error.format_message()} (`{command} --help` shows the options)", 2)
    except UserError as error:
        code = _fail(str(error), 2)
    except Interrupted as error:
        code = _fail(str(error), 130)
    except (KeyboardInterrupt, click.Abort):
        code = _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader has gone (`bench list | head`); nothing more can be written, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _fail(line: str, code: int) -> int:
    click.echo("bench: " + " ".join(line.split()), err=True)
    return code

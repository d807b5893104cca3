"""`bench doctor`: what a bug report needs."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Say what a bug report needs: versions, the machine, folders, plugins and extras, and what is wrong with them.

    It imports every plugin, to find broken ones, and changes nothing.
    """
    from stressbench._util.terminal import stdout_for_records
    from stressbench.execution import doctor as doctoring

    with stdout_for_records() as stdout:  # what plugins print when they are imported is not for the report
        found = doctoring.facts()
        text = json.dumps(found, indent=2) if as_json else "\n".join(doctoring.lines(found))
        click.echo(text, file=stdout)

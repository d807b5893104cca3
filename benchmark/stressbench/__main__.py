"""`bench`, and `python -m stressbench`: the command line in a process of its own, and one that watches over it.

What a plugin's libraries may do to a process (end it, crash it, fill its memory) then has a message and an exit code.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command that the arguments say."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules are imported: no traceback
    if "_BENCH_COMPLETE" in os.environ:  # a shell asks what may follow; click answers, and ends the process
        from stressbench.cli import cli

        cli.main(prog_name="bench")
    from stressbench._util import watch

    def command() -> None:
        from stressbench import cli

        signal.signal(signal.SIGINT, signal.default_int_handler)
        cli.main()

    sys.exit(watch.over(command))


if __name__ == "__main__":
    main()

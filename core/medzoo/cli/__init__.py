"""The command line: its entry point, and a module a command."""

import os
import signal
from typing import NoReturn

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


def quit_at_interrupt() -> None:
    """Let Ctrl-C end the process at once and silently; without effect where it is ignored, as in a background job."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    quit_at_interrupt()  # while the command line is imported, which has its own way to end
    from medzoo.cli.app import main

    main()

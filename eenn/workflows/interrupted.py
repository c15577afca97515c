"""The end of an interrupted run: one line about the results kept and how to go on."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eenn.run_directory import resume_hint

INTERRUPTED = 130  # a shell's exit code for a program that Ctrl-C ended


@contextmanager
def interruptible(directory: Path) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a run alike, with a line that says how to go on.

    Args:
        directory: of the run.
    """
    on_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if on_main_thread else None
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as ended:
        # Lightning ends the program with exit code 1 where it meets Ctrl-C.
        if isinstance(ended, SystemExit) and ended.code != 1:
            raise
        way = resume_hint(directory) or "it has nothing to go on from, start it again"
        print(f"\ninterrupted: {directory}; {way}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    finally:
        if on_main_thread:
            signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    # A second signal would cut the shutdown short.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt

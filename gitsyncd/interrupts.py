"""SIGINT and SIGTERM before there is anything to put in order: a fifth of a second, or a whole one on a busy machine.

Python would raise `KeyboardInterrupt` in the midst of an import. That is a traceback for whoever changed their mind,
and modules in C do not all survive it. What is to be put in order later on is with those who do the work.
"""

import os
import signal
from collections.abc import Sequence


def early(arguments: Sequence[str]) -> None:
    """First of all: nothing has begun, so the process may just end."""
    if arguments[:1] == ["run"]:
        code = 1 if "--once" in arguments else 0  # a pass that was cut short has not shown that all is in sync
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(code))
    elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not so where somebody had it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def ready() -> None:
    """All is loaded, and from now on there is something to put in order: Ctrl-C is `KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)

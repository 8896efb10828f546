"""What every test shares: Hypothesis profiles, and the fixtures of the sandbox.

`HYPOTHESIS_PROFILE=deep make fast ARGS="tests/property"` looks for longer than a commit can wait.
"""

import os
import signal

from hypothesis import settings

pytest_plugins = ["tests.sandbox.fixtures"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that has put us into the background; our children would not hear it either.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("quick", max_examples=50, deadline=None)
"""For `make check`: enough to catch what a change breaks outright. No deadline, because CI machines are uneven."""

settings.register_profile("full", parent=settings.get_profile("quick"), max_examples=300, print_blob=True)
"""For `make test`; a failure prints what reproduces it elsewhere."""

settings.register_profile("deep", parent=settings.get_profile("full"), max_examples=20_000)
"""For an evening."""

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

"""`python -m tests.demo`, which is `make demo`. DEMO_SCRIPT=1 plays the things to try and ends."""

import os
import signal
import sys

from tests.demo.interactive import watch
from tests.demo.screen import Unexpected
from tests.demo.script import play
from tests.sandbox import BuildFailed, NotReady, ProcessEnded, binaries


def main() -> int:
    # As Ctrl-C does: everything that was started is ended.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        # Minutes at the very first time, and told while it lasts.
        binaries.build_all()
        return play() if os.environ.get("DEMO_SCRIPT", "") not in {"", "0"} else watch()
    except KeyboardInterrupt:
        print("\ndemo: interrupted; what was started has been ended", file=sys.stderr)
        return 130
    except (BuildFailed, NotReady, ProcessEnded, Unexpected, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

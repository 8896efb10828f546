"""Where every command begins: `gitsyncd`, and `python -m gitsyncd`."""

import sys

from gitsyncd.interrupts import early


def start() -> int:
    """Run the command of the command line, whatever comes while the program is still being loaded."""
    early(sys.argv[1:])
    from gitsyncd.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(start())

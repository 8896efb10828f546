"""Where every command begins: `gitsyncd`, and `python -m gitsyncd`."""

import os
import sys

from gitsyncd.interrupts import early


def start() -> int:
    """Run the command of the command line, whatever comes while the program is still being loaded."""
    arguments = sys.argv[1:]
    early(arguments)
    reader = None
    if arguments[:1] == ["run"] and not {"-h", "--help"}.intersection(arguments):
        from gitsyncd.reading import begin  # the longest way of a start: it begins before the command line is read

        reader = begin(os.environ)
    from gitsyncd.cli import main

    return main(arguments, reader=reader)


if __name__ == "__main__":
    sys.exit(start())

"""The commands: parsing, exit codes, and what people read. Everything else is done elsewhere.

    parsing                    what can be written, and which function does it
    running, alone, asking     the functions: the daemon; what works without one; what the daemon answers
    agent_file, output         what they share

Exit codes and the shape of JSON are promises: `docs/reference/commands.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gitsyncd.cli.output import complain, let_go_of_output
from gitsyncd.cli.parsing import make_parser
from gitsyncd.model.errors import GitsyncdError

if TYPE_CHECKING:
    from gitsyncd.edges.child.early import EarlyChild


def main(arguments: Sequence[str] | None = None, *, reader: EarlyChild | None = None) -> int:
    """Run one command. Always ends with an exit code and never with a traceback.

    `reader` is what `reading.begin` has started for a `run`.
    """
    options = make_parser().parse_args(arguments, argparse.Namespace(reader=reader))
    try:
        return int(options.run(options))
    except GitsyncdError as error:
        complain(error)
        return int(options.failure)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        let_go_of_output()
        return 141
    except Exception as error:  # noqa: BLE001 - the last line before the user: a traceback helps nobody there
        from gitsyncd.engine.supervise import bug

        complain(bug(error))
        return int(options.failure)

"""What can be written on the command line, and what each word of it is for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gitsyncd import __version__
from gitsyncd.cli import alone, asking, running
from gitsyncd.cli.output import DIFFERS, WRONG

Command = Callable[[argparse.Namespace], int]

_EPILOG = """\
examples:
  gitsyncd check                          is the agent file right?
  gitsyncd plan                           what would be done now, nothing written
  gitsyncd run                            keep every cluster equal to Git
  gitsyncd status --watch                 what is in sync, what is not, and the fix

The agent file is --config FILE, else $GITSYNCD_CONFIG, else /etc/gitsyncd/gitsyncd.yaml.
"""


class _Parser(argparse.ArgumentParser):
    """Mistakes are said as everywhere else: what is wrong, and the fix."""

    def error(self, message: str) -> Any:
        print(f"gitsyncd: {message}\nfix: See `{self.prog} --help`.", file=sys.stderr)
        raise SystemExit(WRONG)


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gitsyncd",
        description="Keeps clusters equal to Git: pulls, compares, applies, and undoes what Git does not say.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gitsyncd {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name, (command, summary, examples, failure, arguments) in _COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"examples:\n  {examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        either = sub.add_mutually_exclusive_group() if _REF in arguments else sub
        for argument in arguments:
            names, settings = argument
            (either if argument in (_REF, _DIR) else sub).add_argument(*names, **settings)
        if name == "approve":
            which = sub.add_mutually_exclusive_group(required=True)
            which.add_argument("--plan", metavar="DIGEST", help="as `plan refused` and `gitsyncd plan` show it")
            which.add_argument("--revision", metavar="COMMIT", help="as `revision held` and `gitsyncd status` show it")
        if name == "rbac":
            whom = sub.add_mutually_exclusive_group()
            whom.add_argument("--service-account", metavar="NAMESPACE/NAME", help="print bindings to it as well")
            whom.add_argument("--user", metavar="NAME", help="print bindings to it as well")
        sub.add_argument("--config", metavar="FILE", help="the agent file")
        if name not in _SILENT:
            sub.add_argument("--output", choices=["text", "json"], default="text", help="for people, or for programs")
        sub.set_defaults(run=command, failure=failure)
    return parser


_Argument = tuple[Sequence[str], dict[str, Any]]
_TARGET: _Argument = (["target"], {"metavar": "TARGET", "help": "NAME or NAME@CLUSTER"})
_TARGETS: _Argument = (
    ["targets"],
    {"nargs": "*", "metavar": "TARGET", "help": "NAME (all its clusters) or NAME@CLUSTER"},
)
_REF: _Argument = (["--ref"], {"metavar": "REF", "help": "a branch or a commit in place of the source's branch"})
_DIR: _Argument = (["--dir"], {"metavar": "DIR", "help": "a local folder in place of the repository", "type": Path})
_PREVIEW: Sequence[_Argument] = (_TARGETS, _REF, _DIR)
_SILENT = frozenset({"run", "schema"})
"""Commands that print no facts of their own: no `--output`."""

_COMMANDS: dict[str, tuple[Command, str, str, int, Sequence[_Argument]]] = {
    "run": (running.run, "the daemon", "gitsyncd run\n  gitsyncd run --once --wait", DIFFERS, [
        (["--once"], {"action": "store_true", "help": "one complete pass over every target, then exit"}),
        (["--wait"], {"action": "store_true", "help": "with --once: also until everything is healthy or timed out"}),
    ]),
    "check": (
        alone.check, "validate the agent file; reaches nothing", "gitsyncd check --config gitsyncd.yaml", WRONG, [],
    ),
    "schema": (
        alone.schema, "print the JSON Schema of the agent file", "gitsyncd schema > gitsyncd.schema.json", WRONG, [],
    ),
    "plan": (
        alone.plan, "what a turn would do now; writes nothing", "gitsyncd plan\n  gitsyncd plan web@eu-1 --dir ./fleet",
        WRONG, _PREVIEW,
    ),
    "diff": (
        alone.diff, "as plan, with every field: last applied, Git, cluster, writer",
        "gitsyncd diff web --ref feature-x", WRONG, _PREVIEW,
    ),
    "status": (
        asking.status, "each target: state, revision, health, what is wrong and the fix",
        "gitsyncd status\n  gitsyncd status --watch\n  gitsyncd status web --output json", WRONG,
        [
            _TARGETS,
            (["--watch"], {"action": "store_true", "help": "go on showing it, until Ctrl-C"}),
            (["--all"], {"action": "store_true", "help": "leave nothing out where there is much to show"}),
        ],
    ),
    "sync": (asking.sync, "look at the remote and the cluster now", "gitsyncd sync web --wait", WRONG, [
        (["targets"], {"nargs": "+", "metavar": "TARGET", "help": "NAME or NAME@CLUSTER"}),
        (["--wait"], {"action": "store_true", "help": "until the turn is over and the target healthy or failed"}),
    ]),
    "reload": (
        asking.reload, "read the agent file anew, and wait until it is in force or refused",
        "gitsyncd reload\n  gitsyncd check && gitsyncd reload --output json", WRONG, [],
    ),
    "approve": (
        asking.approve, "let exactly one refused plan or held revision through, once",
        "gitsyncd approve web@eu-1 --plan 3f0c…\n  gitsyncd approve fleet --revision 9b1d…", WRONG,
        [(["name"], {"metavar": "TARGET|SOURCE", "help": "the target of the plan, or the source of the revision"})],
    ),
    "suspend": (
        asking.suspend, "pause a target, with an end", 'gitsyncd suspend web --for 30m --reason "database move"', WRONG,
        [
            _TARGET,
            (["--for"], {"dest": "duration", "required": True, "metavar": "DURATION", "help": "such as 30m or 2h"}),
            (["--reason"], {"required": True, "metavar": "TEXT", "help": "shown in status and log"}),
        ],
    ),
    "resume": (asking.resume, "end a pause", "gitsyncd resume web", WRONG, [_TARGET]),
    "delete": (
        asking.delete, "prune everything that a target owns; it must be suspended, or gone from the agent file",
        "gitsyncd delete web@eu-1 --yes", DIFFERS,
        [_TARGET, (["--yes"], {"action": "store_true", "help": "yes, delete"})],
    ),
    "history": (
        asking.history,
        "each revision of a target: when admitted, in sync, healthy or failed, and which images it brought",
        "gitsyncd history web@eu-1 --limit 10", WRONG,
        [_TARGET, (["--limit"], {"type": int, "metavar": "N", "help": "so many of the newest"})],
    ),
    "rollback": (
        asking.rollback, "go back by a commit: the target's path as it was, and what must not come back",
        "gitsyncd rollback web@eu-1\n  gitsyncd rollback web@eu-1 --to 9b1d3f0 --yes", DIFFERS,
        [
            _TARGET,
            (["--to"], {"metavar": "COMMIT", "help": "left out: the last that was in sync and healthy"}),
            (["--reason"], {
                "default": "rolled back by hand", "metavar": "TEXT", "help": "in the commit and the quarantine file",
            }),
            (["--pull-request"], {"action": "store_true", "help": "to a branch of its own, with a pull request"}),
            (["--yes"], {"action": "store_true", "help": "write the commit; without, it is only shown"}),
        ],
    ),
    "images": (
        asking.images, "each image policy: what is selected, what is held and why, where it is written",
        'gitsyncd images\n  gitsyncd images lock front --reason "release freeze" --for 24h', WRONG,
        [
            (["words"], {"nargs": "*", "metavar": "POLICY", "help": "which; or `lock POLICY`, or `unlock POLICY`"}),
            (["--reason"], {"metavar": "TEXT", "help": "with lock: shown by `images` and in the log"}),
            (["--for"], {"dest": "duration", "metavar": "DURATION", "help": "with lock: left out, until unlocked"}),
        ],
    ),
    "rbac": (
        alone.rbac, "the roles that targets need, and what the present credential has too little or too much of",
        "gitsyncd rbac --service-account gitsyncd/gitsyncd > roles.yaml\n  gitsyncd rbac web@eu-1 --scope cluster",
        DIFFERS,
        [
            *_PREVIEW,
            (["--scope"], {
                "choices": ["namespaced", "cluster"], "default": "namespaced",
                "help": "list and watch in the namespaces of the targets (the least), or over the whole cluster",
            }),
        ],
    ),
}  # fmt: skip

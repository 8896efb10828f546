"""One function per command: parsing, exit codes, and what people read. Everything else is done elsewhere.

Exit codes and the shape of JSON are promises: `docs/reference/commands.md`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitsyncd import __version__
from gitsyncd.model.errors import ConfigError, GitsyncdError, LocalError, UsageError
from gitsyncd.model.printable import masked, safe_json
from gitsyncd.model.units import parse_duration
from gitsyncd.text import screen

if TYPE_CHECKING:
    from gitsyncd.model.rights import Subject
    from gitsyncd.model.target import Configuration
    from gitsyncd.text.status import View

DEFAULT_CONFIG = "/etc/gitsyncd/gitsyncd.yaml"
DONE, DIFFERS, WRONG, REFUSED = range(4)

_EARLY = 2
"""Clusters whose credentials are read while the program starts: more children at a time would delay one another."""
_SOON_S = 10.0
"""A daemon whose event loop turns answers within milliseconds."""
_GARBAGE = 50_000
"""New containers between two looks of the garbage collector; Python's own 700 are meant for small programs."""

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Always ends with an exit code and never with a traceback."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except GitsyncdError as error:
        complain(error)
        return int(options.failure)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _let_go_of_output()
        return 141
    except Exception as error:  # noqa: BLE001 - the last line before the user: a traceback helps nobody there
        from gitsyncd.engine.supervise import bug

        complain(bug(error))
        return int(options.failure)


def _let_go_of_output() -> None:
    """What could not be written must not be tried again when Python ends: it would show a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(error: GitsyncdError) -> None:
    """`gitsyncd: WHAT: WHY` and a second line with the fix."""
    print(f"gitsyncd: {_lines(str(error))}", file=sys.stderr)
    if error.hint:
        print(f"fix: {_lines(error.hint)}", file=sys.stderr)


def _lines(text: str) -> str:
    """Several mistakes are several lines. Within a line nothing is left that a terminal would obey."""
    return "\n".join(map(masked, text.split("\n")))


# --- commands ---------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> int:
    import asyncio
    import gc

    # What is imported stays: looking for garbage meanwhile takes a tenth of the start and finds none.
    gc.disable()
    _keep_memory_private()
    try:
        configuration = _load(options)
    except ConfigError as error:
        _log_refusal(error, _agent_file(options))
        raise
    from gitsyncd.edges import logs

    agent = configuration.agent
    json = agent.log_format == "json" or (agent.log_format == "auto" and not logs.on_terminal(sys.stdout))
    # A line of progress stands where the next line of the log goes, when both are on the terminal.
    erase = options.once and screen.can_redraw(sys.stdout) and screen.can_redraw(sys.stderr)
    log = logs.set_up(agent.log_level, json=json, erase=erase)
    options.failure = DIFFERS
    from gitsyncd.edges.config.load import load

    def again() -> Configuration:
        return load(configuration.file, os.environ)

    return asyncio.run(_daemon(configuration, log, again, once=options.once, wait=options.wait))


async def _daemon(
    configuration: Configuration, log: Any, load: Callable[[], Configuration], *, once: bool, wait: bool
) -> int:
    """The daemon to its end. The first credentials are read, in a child, while the rest of the program is imported."""
    import asyncio
    import gc

    from gitsyncd.edges.kube.connect import AccessSource

    early = {cluster.name: AccessSource(cluster, configuration.agent) for cluster in configuration.clusters[:_EARLY]}
    begun = list(early.values())
    for access in begun:
        access.begin()
    await asyncio.sleep(0)  # the children start here
    with _no_default_trust():
        from gitsyncd.daemon import Daemon
        from gitsyncd.edges.kube.cluster import KubeCluster
        from gitsyncd.wiring import Edges

    edges = Edges(cluster=lambda cluster, agent: KubeCluster(cluster, agent, early.pop(cluster.name, None)))
    daemon = Daemon(configuration, log=log, edges=edges, load=load)
    # Lists of thousands of objects would have the collector walk them again and again while they grow.
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    gc.enable()
    try:
        work = daemon.run(once=once, wait=wait)
        if not once or not screen.can_redraw(sys.stderr):
            return await work
        from gitsyncd.text.progress import shown_during

        return await shown_during(
            work, lambda: daemon.control.status()["targets"] if daemon.control else None, sys.stderr
        )
    finally:
        for access in begun:
            await access.settled()


@contextmanager
def _no_default_trust() -> Iterator[None]:
    """What aiohttp is imported in: it reads every certificate of the machine then, and all our contexts are our own.

    30 to 50 ms and 2 MB. The context that it makes trusts nobody instead.
    """
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # where OpenSSL looks for them
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def check(options: argparse.Namespace) -> int:
    configuration = _load(options)
    counts = {
        "sources": len(configuration.sources),
        "clusters": len(configuration.clusters),
        "targets": len(configuration.targets),
    }
    text = (
        f"{configuration.file}: "
        + ", ".join(f"{count} {name}" for name, count in counts.items())
        + ": no mistake found"
    )
    _print(options, {"file": str(configuration.file), "valid": True, **counts}, lambda: text)
    return DONE


def schema(options: argparse.Namespace) -> int:
    from gitsyncd.edges.config.schema import json_schema

    del options
    _print_json(json_schema())
    return DONE


def plan(options: argparse.Namespace) -> int:
    return _preview(options, fields=False)


def diff(options: argparse.Namespace) -> int:
    return _preview(options, fields=True)


def _preview(options: argparse.Namespace, *, fields: bool) -> int:
    import asyncio

    from gitsyncd.dryrun import preview
    from gitsyncd.text.plan import plan_text

    _keep_memory_private()
    configuration = _load(options)
    answer = asyncio.run(preview(configuration, options.targets, ref=options.ref, directory=options.dir, fields=fields))
    errors = answer.pop("errors")
    _print(options, answer, lambda: plan_text(answer, colours=screen.colours(sys.stdout)))
    for error in errors:
        complain(error)
    if errors:
        return WRONG
    targets = answer["targets"]
    if any(target["refused"] for target in targets):
        return REFUSED
    return DIFFERS if any(target["changes"] for target in targets) else DONE


def status(options: argparse.Namespace) -> int:
    from gitsyncd.text.status import status_text

    configuration = _load(options)

    def look() -> Any:
        return _ask_soon(configuration, "status", targets=options.targets)

    if options.watch:
        return _watch(options, look)
    answer = look()
    _print(options, answer, lambda: status_text(answer, _view(options)))
    return _all_in_sync(answer)


def _watch(options: argparse.Namespace, look: Callable[[], Any]) -> int:
    """Until Ctrl-C, which is its usual end: the exit code is that of the last answer."""
    from gitsyncd.text.watch import document, frame, watch, when_new, window

    if options.output == "json":
        last = watch(look, when_new(lambda seen: _print_json(document(seen), lines=True)))
    elif screen.can_redraw(sys.stdout):
        with window(sys.stdout) as show:
            last = watch(look, lambda seen: show(frame(seen, _view(options, bars=True))))
    else:
        last = watch(look, when_new(lambda seen: _write(frame(seen, _view(options)) + "\n")))
    return WRONG if last.trouble else _all_in_sync(last.answer)


def _all_in_sync(answer: Any) -> int:
    return DONE if all(target["state"] == "in-sync" for target in answer["targets"]) else DIFFERS


def sync(options: argparse.Namespace) -> int:
    from contextlib import nullcontext

    from gitsyncd.text.progress import shown_meanwhile
    from gitsyncd.text.status import status_text

    configuration = _load(options)

    def look() -> Any:
        return _ask_soon(configuration, "status", targets=options.targets)["targets"]

    seen = options.wait and screen.can_redraw(sys.stderr)
    with shown_meanwhile(look, sys.stderr) if seen else nullcontext():
        answer = _ask(configuration, "sync", targets=options.targets, wait=options.wait)
    synced = answer.pop("synced")
    _print(options, answer, lambda: status_text(answer, _view(options, brief=True)))
    return DONE if synced is not False else DIFFERS


def approve(options: argparse.Namespace) -> int:
    configuration = _load(options)
    if options.plan:
        answer = _ask(configuration, "approve-plan", target=options.name, plan=options.plan)
        _print(options, answer, lambda: f"{answer['target']}: plan {answer['approved']} may be carried out, once")
    else:
        answer = _ask(configuration, "approve-revision", source=options.name, revision=options.revision)
        _print(options, answer, lambda: f"{answer['source']}: {answer['approved']} is admitted")
    return DONE


def suspend(options: argparse.Namespace) -> int:
    _check_duration(options.duration)
    answer = _ask(_load(options), "suspend", target=options.target, reason=options.reason, **{"for": options.duration})
    _print(
        options,
        answer,
        lambda: "\n".join(f"{t['target']}: suspended until {t['suspended']['until']}" for t in answer["targets"]),
    )
    return DONE


def resume(options: argparse.Namespace) -> int:
    answer = _ask(_load(options), "resume", target=options.target)
    _print(options, answer, lambda: "\n".join(f"{t['target']}: resumed" for t in answer["targets"]))
    return DONE


def delete(options: argparse.Namespace) -> int:
    if not options.yes:
        raise UsageError(
            f"this deletes everything that {options.target} owns on its clusters",
            hint=f"See what that is with `gitsyncd status`, then: gitsyncd delete {options.target} --yes",
        )
    answer = _ask(_load(options), "delete", target=options.target)
    left = answer["remaining"]
    lines = [f"{options.target}: {answer['deleted']} objects deleted"]
    lines += [f"  {masked(item['object'])}: {masked(item['error'])}\n    fix: {masked(item['hint'])}" for item in left]
    _print(options, answer, lambda: "\n".join(lines))
    return DIFFERS if left else DONE


def history(options: argparse.Namespace) -> int:
    from gitsyncd.text.history import history_text

    if options.limit is not None and options.limit < 1:
        raise UsageError("--limit: is less than one", hint="Write for example --limit 10.")
    answer = _ask(_load(options), "history", target=options.target, limit=options.limit)
    _print(
        options,
        answer,
        lambda: history_text(answer, width=screen.width(sys.stdout), colours=screen.colours(sys.stdout)),
    )
    return DONE


def rollback(options: argparse.Namespace) -> int:
    from gitsyncd.text.rollback import rollback_text

    configuration = _load(options)
    asked = {
        "target": options.target,
        "to": options.to,
        "reason": options.reason,
        "pull_request": options.pull_request,
    }
    pushed, options.failure = options.failure, WRONG
    try:
        way = _ask(configuration, "rollback", **asked)
    except LocalError:
        options.failure = pushed
        raise
    if not options.yes:
        raise UsageError(
            rollback_text(way), hint=f"If that is meant: gitsyncd rollback {options.target} --to {way['to']} --yes"
        )
    options.failure = pushed
    answer = _ask(configuration, "rollback", **(asked | {"to": way["to"], "yes": True}))
    _print(options, answer, lambda: rollback_text(answer))
    return DONE


def images(options: argparse.Namespace) -> int:
    """`images [POLICY…]`, `images lock POLICY`, `images unlock POLICY`: told apart by the first of two words."""
    from datetime import UTC, datetime

    from gitsyncd.text.images import images_text

    match options.words:
        case ["lock", name]:
            return _lock(options, name)
        case ["unlock", name] if not (options.reason or options.duration):
            answer = _ask_soon(_load(options), "images-unlock", policy=name)
            _print(options, answer, lambda: f"{name}: " + ("unlocked" if answer["was_locked"] else "was not locked"))
            return DONE
    if options.reason or options.duration:
        raise UsageError(
            "--reason and --for belong to `images lock`", hint='Write: gitsyncd images lock POLICY --reason "…"'
        )
    answer = _ask_soon(_load(options), "images", policies=options.words)
    _print(
        options,
        answer,
        lambda: images_text(
            answer, now=datetime.now(UTC), width=screen.width(sys.stdout), colours=screen.colours(sys.stdout)
        ),
    )
    failed = any(item["state"] == "failed" for item in (*answer["policies"], *answer["updates"]))
    return DIFFERS if failed else DONE


def _lock(options: argparse.Namespace, name: str) -> int:
    if not options.reason:
        raise UsageError("a lock needs a reason", hint=f'Write: gitsyncd images lock {name} --reason "…"')
    if options.duration:
        _check_duration(options.duration)
    answer = _ask_soon(_load(options), "images-lock", policy=name, reason=options.reason, **{"for": options.duration})
    until = answer["locked"]["until"]
    _print(options, answer, lambda: f"{name}: locked " + (f"until {until}" if until else "until it is unlocked"))
    return DONE


def _check_duration(text: str) -> None:
    try:
        parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--for: {error}", hint="Write for example --for 30m or --for 2h.") from error


def rbac(options: argparse.Namespace) -> int:
    import asyncio

    from gitsyncd.dryrun import RightsQuestion, rights
    from gitsyncd.model.rights import Scope
    from gitsyncd.text.rbac import lacks, rbac_remarks, rbac_yaml

    _keep_memory_private()
    question = RightsQuestion(
        scope=Scope(options.scope), ref=options.ref, directory=options.dir, subject=_subject(options)
    )
    answer = asyncio.run(rights(_load(options), options.targets, question))
    errors = answer.pop("errors")
    _print(options, answer, lambda: rbac_yaml(answer))
    if options.output == "text" and answer["clusters"]:
        print(rbac_remarks(answer, colours=screen.colours(sys.stderr)), file=sys.stderr)
    for error in errors:
        complain(error)
    return DIFFERS if errors or any(map(lacks, answer["clusters"])) else DONE


def _subject(options: argparse.Namespace) -> Subject | None:
    from gitsyncd.model.rights import Subject

    if options.user is not None:
        return Subject(kind="User", name=options.user)
    if options.service_account is None:
        return None
    namespace, _, name = options.service_account.partition("/")
    if not namespace or not name or "/" in name:
        raise UsageError(
            f"--service-account: {options.service_account!r} is not NAMESPACE/NAME",
            hint="Write for example --service-account gitsyncd/gitsyncd.",
        )
    return Subject(kind="ServiceAccount", name=name, namespace=namespace)


# --- the shared parts -------------------------------------------------------------------------------------------------

_ASKING = (status, sync, approve, suspend, resume, delete, history, rollback, images)
"""Commands that the daemon answers."""


def _keep_memory_private() -> None:
    """Before any credential or Secret is read."""
    from gitsyncd.edges.child.launch import forbid_core_dumps

    forbid_core_dumps()


def _agent_file(options: argparse.Namespace) -> Path:
    return Path(options.config or os.environ.get("GITSYNCD_CONFIG") or DEFAULT_CONFIG)


def _log_refusal(error: ConfigError, file: Path) -> None:
    """For whoever collects the log alone. A terminal shows what goes to standard error beside it: once is enough."""
    from gitsyncd.edges import logs

    if not logs.on_terminal(sys.stdout):
        log = logs.set_up("info", json=True)
        log.error("configuration refused", file=str(file), error=str(error), remedy=error.remedy, hint=error.hint)


def _load(options: argparse.Namespace) -> Configuration:
    from gitsyncd.edges.config.load import load

    try:
        # Who may talk to the daemon need not be able to read its credentials.
        return load(_agent_file(options), os.environ, opened=options.run not in _ASKING)
    except ConfigError:
        options.failure = WRONG
        raise


def _ask(configuration: Configuration, call: str, **arguments: Any) -> Any:
    from gitsyncd.edges.web.local import ask

    return ask(configuration.agent.socket, call, **arguments)


def _ask_soon(configuration: Configuration, call: str, **arguments: Any) -> Any:
    """What the daemon answers at once, unless something is very wrong with it."""
    from gitsyncd.edges.web.local import ask

    return ask(configuration.agent.socket, call, within_s=_SOON_S, **arguments)


def _view(options: argparse.Namespace, *, bars: bool = False, brief: bool = False) -> View:
    from datetime import UTC, datetime

    from gitsyncd.text.status import View

    return View(
        now=datetime.now(UTC),
        width=screen.width(sys.stdout),
        colours=screen.colours(sys.stdout),
        everything=getattr(options, "all", False),
        named=bool(options.targets),
        bars=bars,
        brief=brief,
    )


def _print(options: argparse.Namespace, answer: Any, text: Callable[[], str]) -> None:
    if options.output == "json":
        _print_json(answer)
    else:
        _write(text())


def _print_json(value: Any, *, lines: bool = False) -> None:
    import orjson

    _write(safe_json(orjson.dumps(value, option=0 if lines else orjson.OPT_INDENT_2, default=str).decode()))


def _write(text: str) -> None:
    try:
        # What the terminal's encoding does not have is no reason to show nothing.
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _let_go_of_output()
        raise LocalError(
            f"cannot write the answer to standard output: {error.strerror or error}",
            hint="Free some space there, or send the output elsewhere.",
        ) from error


# --- parsing ----------------------------------------------------------------------------------------------------------

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


def _parser() -> argparse.ArgumentParser:
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
        for names, settings in arguments:
            sub.add_argument(*names, **settings)
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
_PREVIEW: Sequence[_Argument] = (
    _TARGETS,
    (["--ref"], {"metavar": "REF", "help": "a branch or a commit in place of the source's branch"}),
    (["--dir"], {"metavar": "DIR", "help": "a local folder in place of the repository", "type": Path}),
)
_SILENT = frozenset({"run", "schema"})
"""Commands that print no facts of their own: no `--output`."""

_COMMANDS: dict[str, tuple[Command, str, str, int, Sequence[_Argument]]] = {
    "run": (run, "the daemon", "gitsyncd run\n  gitsyncd run --once --wait", DIFFERS, [
        (["--once"], {"action": "store_true", "help": "one complete pass over every target, then exit"}),
        (["--wait"], {"action": "store_true", "help": "with --once: also until everything is healthy or timed out"}),
    ]),
    "check": (check, "validate the agent file; reaches nothing", "gitsyncd check --config gitsyncd.yaml", WRONG, []),
    "schema": (schema, "print the JSON Schema of the agent file", "gitsyncd schema > gitsyncd.schema.json", WRONG, []),
    "plan": (
        plan, "what a turn would do now; writes nothing", "gitsyncd plan\n  gitsyncd plan web@eu-1 --dir ./fleet",
        WRONG, _PREVIEW,
    ),
    "diff": (
        diff, "as plan, with every field: last applied, Git, cluster, writer", "gitsyncd diff web --ref feature-x",
        WRONG, _PREVIEW,
    ),
    "status": (
        status, "each target: state, revision, health, what is wrong and the fix",
        "gitsyncd status\n  gitsyncd status --watch\n  gitsyncd status web --output json", WRONG,
        [
            _TARGETS,
            (["--watch"], {"action": "store_true", "help": "go on showing it, until Ctrl-C"}),
            (["--all"], {"action": "store_true", "help": "leave nothing out where there is much to show"}),
        ],
    ),
    "sync": (sync, "look at the remote and the cluster now", "gitsyncd sync web --wait", WRONG, [
        (["targets"], {"nargs": "+", "metavar": "TARGET", "help": "NAME or NAME@CLUSTER"}),
        (["--wait"], {"action": "store_true", "help": "until the turn is over and the target healthy or failed"}),
    ]),
    "approve": (
        approve, "let exactly one refused plan or held revision through, once",
        "gitsyncd approve web@eu-1 --plan 3f0c…\n  gitsyncd approve fleet --revision 9b1d…", WRONG,
        [(["name"], {"metavar": "TARGET|SOURCE", "help": "the target of the plan, or the source of the revision"})],
    ),
    "suspend": (
        suspend, "pause a target, with an end", 'gitsyncd suspend web --for 30m --reason "database move"', WRONG,
        [
            _TARGET,
            (["--for"], {"dest": "duration", "required": True, "metavar": "DURATION", "help": "such as 30m or 2h"}),
            (["--reason"], {"required": True, "metavar": "TEXT", "help": "shown in status and log"}),
        ],
    ),
    "resume": (resume, "end a pause", "gitsyncd resume web", WRONG, [_TARGET]),
    "delete": (
        delete, "prune everything that a target owns; it must be suspended, or gone from the agent file",
        "gitsyncd delete web@eu-1 --yes", DIFFERS,
        [_TARGET, (["--yes"], {"action": "store_true", "help": "yes, delete"})],
    ),
    "history": (
        history, "each revision of a target: when admitted, in sync, healthy or failed, and which images it brought",
        "gitsyncd history web@eu-1 --limit 10", WRONG,
        [_TARGET, (["--limit"], {"type": int, "metavar": "N", "help": "so many of the newest"})],
    ),
    "rollback": (
        rollback, "go back by a commit: the target's path as it was, and what must not come back",
        "gitsyncd rollback web@eu-1\n  gitsyncd rollback web@eu-1 --to 9b1d3f0 --yes", DIFFERS,
        [
            _TARGET,
            (["--to"], {"default": "", "metavar": "COMMIT", "help": "left out: the last that was in sync and healthy"}),
            (["--reason"], {
                "default": "rolled back by hand", "metavar": "TEXT", "help": "in the commit and the quarantine file",
            }),
            (["--pull-request"], {"action": "store_true", "help": "to a branch of its own, with a pull request"}),
            (["--yes"], {"action": "store_true", "help": "write the commit; without, it is only shown"}),
        ],
    ),
    "images": (
        images, "each image policy: what is selected, what is held and why, where it is written",
        'gitsyncd images\n  gitsyncd images lock front --reason "release freeze" --for 24h', WRONG,
        [
            (["words"], {"nargs": "*", "metavar": "POLICY", "help": "which; or `lock POLICY`, or `unlock POLICY`"}),
            (["--reason"], {"metavar": "TEXT", "help": "with lock: shown by `images` and in the log"}),
            (["--for"], {"dest": "duration", "metavar": "DURATION", "help": "with lock: left out, until unlocked"}),
        ],
    ),
    "rbac": (
        rbac, "the roles that targets need, and what the present credential has too little or too much of",
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

"""Commands that the running daemon answers, over its socket. They need no credentials of the agent file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gitsyncd import interrupts
from gitsyncd.cli.agent_file import load
from gitsyncd.cli.output import DIFFERS, DONE, WRONG, print_answer, print_json, write
from gitsyncd.model.errors import GitsyncdError, LocalError, UsageError
from gitsyncd.model.printable import masked
from gitsyncd.model.units import parse_period
from gitsyncd.text import screen

if TYPE_CHECKING:
    import argparse

    from gitsyncd.model.target import Configuration
    from gitsyncd.text.status import View

_SOON_S = 10.0
"""A daemon whose event loop turns answers within milliseconds."""


def status(options: argparse.Namespace) -> int:
    from gitsyncd.text.status import status_text

    configuration = _load(options)

    def look() -> Any:
        return _ask_soon(configuration, "status", targets=options.targets)

    if options.watch:
        return _watch(options, look)
    answer = look()
    print_answer(options, answer, lambda: status_text(answer, _view(options)))
    return _all_in_sync(answer)


def _watch(options: argparse.Namespace, look: Callable[[], Any]) -> int:
    """Until Ctrl-C, which is its usual end: the exit code is that of the last answer."""
    from gitsyncd.text.watch import document, frame, watch, when_new, window

    if options.output == "json":
        last = watch(look, when_new(lambda seen: print_json(document(seen), lines=True)))
    elif screen.can_redraw(sys.stdout):
        with window(sys.stdout) as show:
            last = watch(look, lambda seen: show(frame(seen, _view(options, bars=True))))
    else:
        last = watch(look, when_new(lambda seen: write(frame(seen, _view(options)) + "\n")))
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
    print_answer(options, answer, lambda: status_text(answer, _view(options, brief=True)))
    return DONE if synced is not False else DIFFERS


def approve(options: argparse.Namespace) -> int:
    configuration = _load(options)
    if options.plan:
        answer = _ask(configuration, "approve-plan", target=options.name, plan=options.plan)
        print_answer(options, answer, lambda: f"{answer['target']}: plan {answer['approved']} may be carried out, once")
    else:
        answer = _ask(configuration, "approve-revision", source=options.name, revision=options.revision)
        print_answer(options, answer, lambda: f"{answer['source']}: {answer['approved']} is admitted")
    return DONE


def reload(options: argparse.Namespace) -> int:
    from gitsyncd.edges.web.local import NoDaemon

    configuration = _load(options)
    try:
        answer = _ask(configuration, "reload")
    except NoDaemon as error:
        raise LocalError(
            error.message, hint=f"{error.hint} If `agent.socket` is what was changed in the file: restart the daemon."
        ) from error
    if answer["file"] != str(configuration.file):
        raise LocalError(
            f"the daemon at {configuration.agent.socket} goes by {answer['file']}, which it has read anew",
            hint="Name that file by --config, or give each daemon an `agent.socket` of its own.",
        )
    lines = answer["changed"] or ["nothing changed"]
    print_answer(options, answer, lambda: "\n".join(masked(f"{answer['file']}: {line}") for line in lines))
    return DONE


def suspend(options: argparse.Namespace) -> int:
    _check_duration(options.duration)
    answer = _ask(_load(options), "suspend", target=options.target, reason=options.reason, **{"for": options.duration})
    print_answer(
        options,
        answer,
        lambda: "\n".join(f"{t['target']}: suspended until {t['suspended']['until']}" for t in answer["targets"]),
    )
    return DONE


def resume(options: argparse.Namespace) -> int:
    answer = _ask(_load(options), "resume", target=options.target)
    print_answer(options, answer, lambda: "\n".join(f"{t['target']}: resumed" for t in answer["targets"]))
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
    if answer["released"]:
        lines.append(f"  {answer['released']} objects are no longer its own, and stay")
    lines += [f"  {masked(item['object'])}: {masked(item['error'])}\n    fix: {masked(item['hint'])}" for item in left]
    print_answer(options, answer, lambda: "\n".join(lines))
    return DIFFERS if left else DONE


def history(options: argparse.Namespace) -> int:
    from gitsyncd.text.history import history_text

    if options.limit is not None and options.limit < 1:
        raise UsageError("--limit: is less than one", hint="Write for example --limit 10.")
    answer = _ask(_load(options), "history", target=options.target, limit=options.limit)
    print_answer(
        options,
        answer,
        lambda: history_text(answer, width=screen.width(sys.stdout), colours=screen.colours(sys.stdout)),
    )
    return DONE


def rollback(options: argparse.Namespace) -> int:
    from gitsyncd.text.rollback import rollback_text

    not_pushed, options.failure = options.failure, WRONG
    _check_rollback(options)
    configuration = _load(options)
    try:
        answer = _ask(
            configuration,
            "rollback",
            target=options.target,
            to=options.to,
            reason=options.reason,
            pull_request=options.pull_request,
            yes=options.yes,
        )
    except UsageError:
        raise
    except GitsyncdError:
        options.failure = not_pushed
        raise
    if not options.yes:
        raise UsageError(
            rollback_text(answer),
            hint=f"If that is meant: gitsyncd rollback {options.target} --to {answer['to']} --yes",
        )
    print_answer(options, answer, lambda: rollback_text(answer))
    return DONE


def _check_rollback(options: argparse.Namespace) -> None:
    if options.to == "":
        raise UsageError("--to: is empty", hint="Name a commit, or leave --to out for the last good one.")
    if not options.reason.strip() or not options.reason.isprintable():
        raise UsageError(
            "--reason: is empty, or has more than one line", hint='Write for example --reason "it crashes".'
        )


def images(options: argparse.Namespace) -> int:
    """`images [POLICY…]`, `images lock POLICY`, `images unlock POLICY`: told apart by the first of two words."""
    from datetime import UTC, datetime

    from gitsyncd.text.images import images_text

    match options.words:
        case ["lock", name]:
            return _lock(options, name)
        case ["unlock", name] if not (options.reason or options.duration):
            answer = _ask_soon(_load(options), "images-unlock", policy=name)
            print_answer(
                options, answer, lambda: f"{name}: " + ("unlocked" if answer["was_locked"] else "was not locked")
            )
            return DONE
    if options.reason or options.duration:
        raise UsageError(
            "--reason and --for belong to `images lock`", hint='Write: gitsyncd images lock POLICY --reason "…"'
        )
    answer = _ask_soon(_load(options), "images", policies=options.words)
    print_answer(
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
    print_answer(options, answer, lambda: f"{name}: locked " + (f"until {until}" if until else "until it is unlocked"))
    return DONE


def _check_duration(text: str) -> None:
    try:
        parse_period(text)
    except ValueError as error:
        raise UsageError(f"--for: {error}", hint="Write for example --for 30m or --for 2h.") from error


def _load(options: argparse.Namespace) -> Configuration:
    """Who may talk to the daemon need not be able to read its credentials."""
    return load(options, opened=False)


def _ask(configuration: Configuration, call: str, **arguments: Any) -> Any:
    from gitsyncd.edges.web.local import ask

    interrupts.ready()
    return ask(configuration.agent.socket, call, **arguments)


def _ask_soon(configuration: Configuration, call: str, **arguments: Any) -> Any:
    """What the daemon answers at once, unless something is very wrong with it."""
    from gitsyncd.edges.web.local import ask

    interrupts.ready()
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

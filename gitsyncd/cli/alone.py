"""Commands that need no daemon: they read the agent file, and clusters and repositories if they must. None writes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gitsyncd import interrupts
from gitsyncd.cli.agent_file import load
from gitsyncd.cli.output import DIFFERS, DONE, REFUSED, WRONG, complain, print_answer, print_json
from gitsyncd.model.errors import UsageError
from gitsyncd.text import screen

if TYPE_CHECKING:
    import argparse

    from gitsyncd.model.rights import Subject


def check(options: argparse.Namespace) -> int:
    configuration = load(options)
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
    print_answer(options, {"file": str(configuration.file), "valid": True, **counts}, lambda: text)
    return DONE


def schema(options: argparse.Namespace) -> int:
    from gitsyncd.edges.config.schema import json_schema

    del options
    print_json(json_schema())
    return DONE


def plan(options: argparse.Namespace) -> int:
    return _preview(options, fields=False)


def diff(options: argparse.Namespace) -> int:
    return _preview(options, fields=True)


def _preview(options: argparse.Namespace, *, fields: bool) -> int:
    import asyncio

    from gitsyncd.dryrun import preview
    from gitsyncd.text.plan import plan_text

    configuration = load(options)
    interrupts.ready()
    answer = asyncio.run(preview(configuration, options.targets, ref=options.ref, directory=options.dir, fields=fields))
    errors = answer.pop("errors")
    print_answer(options, answer, lambda: plan_text(answer, colours=screen.colours(sys.stdout)))
    for error in errors:
        complain(error)
    if errors:
        return WRONG
    targets = answer["targets"]
    if any(target["refused"] for target in targets):
        return REFUSED
    return DIFFERS if any(target["changes"] for target in targets) else DONE


def rbac(options: argparse.Namespace) -> int:
    import asyncio

    from gitsyncd.dryrun import RightsQuestion, rights
    from gitsyncd.model.rights import Scope
    from gitsyncd.text.rbac import lacks, rbac_remarks, rbac_yaml

    question = RightsQuestion(
        scope=Scope(options.scope), ref=options.ref, directory=options.dir, subject=_subject(options)
    )
    interrupts.ready()
    answer = asyncio.run(rights(load(options), options.targets, question))
    errors = answer.pop("errors")
    print_answer(options, answer, lambda: rbac_yaml(answer))
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

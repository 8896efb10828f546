"""What documentation pages print from the code: `python -m tests.docs.generate` fills it in, `--check` only compares.

Prose is written by hand. Between `<!-- printed: NAME -->` and `<!-- end -->` a page holds what the function of that
name in `PRINTED` says, so that a table cannot say anything else than the code.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from gitsyncd.cli.parsing import make_parser
from gitsyncd.core import controls, guard, writers
from gitsyncd.core.compare import Owner
from gitsyncd.core.images import ranked
from gitsyncd.core.plan import TABLE, Fact
from gitsyncd.model import errors
from gitsyncd.model.errors import GitsyncdError
from gitsyncd.model.image import Filter, ImagePolicy, Order, Rule, Select
from gitsyncd.model.metric import METRICS, PREFIX

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"(<!-- printed: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

EXIT_CODES: dict[str, tuple[tuple[str, str], ...]] = {
    "run": (
        ("0", "ended by SIGTERM or SIGINT; with `--once` only if all is in sync, and healthy if `--wait`"),
        (
            "1",
            "with `--once`: not all in sync, or not healthy, or ended before that was known; anything else that went wrong",
        ),
        ("2", "the agent file is refused"),
    ),
    "check": (("0", "no mistake found"), ("2", "mistakes, each on a line")),
    "schema": (("0", "printed"),),
    "plan": (
        ("0", "nothing to do"),
        ("1", "changes"),
        ("2", "a plan could not be made, or a remote not be asked; what could be planned is printed"),
        ("3", "a guard refuses a plan"),
    ),
    "diff": (("0 to 3", "as `plan`"),),
    "status": (
        ("0", "all in sync; with `--watch`: when Ctrl-C ended it"),
        ("1", "some not"),
        ("2", "no daemon answers, or no such target"),
    ),
    "sync": (
        ("0", "asked for; with `--wait`: in sync and healthy"),
        ("1", "with `--wait`: not in sync with what the remote has now, or not healthy in time"),
        ("2", "no daemon answers, or no such target"),
    ),
    "reload": (
        ("0", "in force; what changed is printed"),
        ("2", "refused, or it could not be read, and nothing changed; or no daemon answers"),
    ),
    "approve": (("0", "let through"), ("2", "it is not that plan or head any more; no daemon answers")),
    "suspend": (("0", "paused"), ("2", "no such target, or no daemon answers")),
    "resume": (("0", "goes on"), ("2", "no such target, paused in the agent file, or no daemon answers")),
    "delete": (
        ("0", "all of it is deleted"),
        ("1", "some is left, the target is neither suspended nor gone from the file, or no daemon answers"),
        ("2", "the agent file is refused"),
    ),
    "history": (("0", "shown"), ("2", "no such target, the cluster does not answer, or no daemon does")),
    "rollback": (
        ("0", "the commit is pushed"),
        ("1", "it could not be pushed, or no daemon answers"),
        (
            "2",
            "wrong use: no such target or commit, one that is quarantined or there already, newer commits, or without `--yes`",
        ),
    ),
    "images": (
        ("0", "every policy and every update works; or locked, or unlocked"),
        ("1", "some policy or update fails"),
        ("2", "no such policy, or no daemon answers"),
    ),
    "rbac": (
        ("0", "the credential has what the targets need; it may have more, which is told"),
        ("1", "something is missing, or could not be told; what could is printed"),
        ("2", "the agent file is refused"),
    ),
}
ADVICE = {
    "ConfigError": "Every mistake of the file is on a line of its own, with what to write instead. "
    "At a start nothing runs before it is right.",
    "SourceUnreachable": "What was admitted last stays in force, and drift is healed meanwhile, "
    "also across a restart of the daemon.",
    "SourceDenied": "Replace the file that `auth` names: it is read again at each use, no restart is needed.",
    "RevisionNotFound": "Push the branch or the path, or correct `ref.branch` or `path`. "
    "A missing path never counts as an empty one, so nothing is deleted for it.",
    "RevisionNotTrusted": "[Approve or reject it](../how-to/held-revision.md).",
    "SourceTooLarge": "Take the large file out of the folder of the target; for a pack or an object of the history, "
    "use a repository that holds manifests only.",
    "MirrorDamaged": "Nothing, unless it happens again: then the disk is failing.",
    "PushRefused": "Let the writer push to that branch, or let it push to one of its own and open pull requests.",
    "PushContended": "Nothing: it is tried again.",
    "TooManyCommits": "Nothing: it is written later. A policy that moves so often may follow the wrong tags.",
    "ManifestInvalid": "Correct the file at the line that is named. "
    "A revision with one such file is applied to no object of the target, and nothing is deleted.",
    "RendererFailed": "Look at what the revision added: a file that no manifest should be.",
    "RendererTimedOut": "It is tried again. If it stays, the folder of the target holds too much.",
    "PlanRefused": "[Approve the plan](../how-to/approve-a-plan.md), or revert the commit.",
    "ClusterUnreachable": "Nothing if the cluster comes back by itself. The mirror, the plan and the record are kept.",
    "Throttled": "Lower `limits.parallel` of the cluster if it happens often.",
    "ClusterDenied": "Give the credential the right that is named: [what the agent needs](../how-to/least-rights.md).",
    "ClusterReplaced": "[Replace or restore a cluster](../how-to/replace-a-cluster.md).",
    "KindUnknown": "Correct `apiVersion` and `kind`, or add the CustomResourceDefinition to Git. "
    "The other objects of the target are applied.",
    "NotFound": "It is tried again. If it stays, add the namespace, or the object that this one needs, to Git.",
    "Immutable": "Rename the object; or annotate it so that it is deleted and created again. "
    "That is never done to a Namespace, a PersistentVolume, a PersistentVolumeClaim or a CustomResourceDefinition.",
    "Rejected": "Correct the field that is named, in Git.",
    "AdmissionUnavailable": "Mend the webhook's service, or its `failurePolicy`. It is tried again.",
    "Conflict": "Decide whose it is: remove it from Git or from the other owner, or set `adopt` or `ignore_fields`.",
    "Changed": "Nothing: it is looked at again at once.",
    "LeaseLost": "Nothing: a daemon that was paused, or that could not reach the cluster, tries again when it holds the "
    "lease.",
    "StandingBy": "Nothing, if two daemons of this name are meant to run: see which one writes by `gitsyncd status` there. "
    "Otherwise stop one of them, or give it a name of its own.",
    "ClusterRestored": "Nothing: what Git says is applied again. Objects that came back with the backup and are no longer "
    "in Git are pruned within the usual budget.",
    "Expired": "Nothing: it is listed afresh.",
    "ForgeUnreachable": "Nothing: it is asked again. The commit is on its branch already.",
    "ForgeDenied": "Correct the token, or let its user open pull requests in that repository.",
    "ForgeRefused": "Do what the forge's own words say.",
    "RegistryError": "Push the image again if it was not pushed whole; else tell whoever runs the registry.",
    "RegistryUnreachable": "Nothing if the registry comes back by itself. What was selected stays selected.",
    "RegistryThrottled": "Nothing: it is asked again after the pause that it asked for.",
    "RegistryDenied": "Correct the credentials, or the CA, of that registry.",
    "ImageNotFound": "Correct the name of the image, or let the credentials see it.",
    "StateError": "[Recover the inventory](../how-to/recover-lost-state.md).",
    "LocalError": "Mend what the message names on the agent's machine: space, owner, mode, path.",
    "UsageError": "Type what the fix says.",
}
_CONTROL_MEANINGS = {
    controls.RECONCILE: "`disabled`: the object is left as it is: not applied, not reverted, not deleted.",
    controls.PRUNE: "`disabled`: when it leaves Git it is forgotten and not deleted.",
    controls.APPLY: "`merge`: what others add is theirs. "
    "`if-not-present`: created once and then left alone; still deleted when it leaves Git. "
    "`ignore`: never sent to a cluster.",
    controls.ON_IMMUTABLE: "When a field changes that cannot change, the object is deleted and created. "
    "Never a Namespace, PersistentVolume, PersistentVolumeClaim or CustomResourceDefinition.",
    controls.SUBSTITUTE: "Accepted, and without effect: nothing is substituted.",
    controls.WAVE: "Lower ones first, before the order of kinds.",
    controls.DEPENDS_ON: "Applied when those are applied and healthy.",
    controls.HOOK: "Refused: hooks are not supported yet.",
    controls.HOOK_DELETE: "Refused, as `hook` is.",
}
_SAME_AS = {
    "reconcile": "`gitsyncd.dev/reconcile: disabled`",
    "prune": "`gitsyncd.dev/prune: disabled`",
    "prune_needs_approval": "deleting this object needs approval",
    "recreate": "`gitsyncd.dev/on-immutable: recreate`",
}


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


# --- commands ---------------------------------------------------------------------------------------------------------


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parsers of all commands, by name."""
    parser = make_parser()
    return next(dict(a.choices) for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def commands_page() -> str:
    return "\n".join(_command(name, parser) for name, parser in commands().items())


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    actions = [action for action in parser._actions if action.dest != "help"]
    examples = str(parser.epilog).partition("examples:\n")[2].splitlines()
    arguments = table(("Argument", "Meaning"), [(f"`{_shown(action)}`", str(action.help)) for action in actions])
    codes = table(("Exit code", "Meaning"), list(EXIT_CODES[name]))
    usage = " ".join(["gitsyncd", name, *(_usage(action) for action in actions)])
    shown = "\n".join(f"$ {example.strip()}" for example in examples)
    return (
        f"## `{name}`\n\n{parser.description}\n\n```text\n{usage}\n```\n\n"
        f"{arguments}\n{codes}\n```console\n{shown}\n```\n"
    )


def _shown(action: argparse.Action) -> str:
    if action.choices:
        return f"{action.option_strings[0]} {'|'.join(action.choices)}"
    if not action.option_strings:
        return str(action.metavar)
    return action.option_strings[0] if action.nargs == 0 else f"{action.option_strings[0]} {action.metavar}"


def _usage(action: argparse.Action) -> str:
    text = _shown(action)
    if action.nargs == "*":
        return f"[{text}…]"
    if action.nargs == "+":
        return f"{text} [{text}…]"
    return text if action.required else f"[{text}]"


# --- errors -----------------------------------------------------------------------------------------------------------


def leaves(of: type[GitsyncdError] = GitsyncdError) -> list[type[GitsyncdError]]:
    """Every class of the tree that stands for one failure, in the order of the module."""
    classes = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, of)]
    # Of this module alone: an edge may have a private subclass, and whether it is imported must make no difference.
    groups = {base for c in classes for base in c.__bases__ if base not in {errors.Rejected, errors.Changed}}
    return [c for c in classes if c not in groups]


def error_tree() -> str:
    tree = inspect.getdoc(errors) or ""
    lines = [line for line in tree.splitlines() if line.startswith("    ")]
    return "```text\n" + "\n".join(line.removeprefix("    ") for line in lines) + "\n```\n"


def errors_page() -> str:
    return "\n".join(_error(error) for error in leaves())


def _error(error: type[GitsyncdError]) -> str:
    hint = f"\nHint, unless there is a closer one: “{error.default_hint}”\n" if error.default_hint else ""
    return (
        f"## {error.__name__}\n\nRemedy: `{error.remedy}`.\n{inspect.getdoc(error)}\n{hint}\n{ADVICE[error.__name__]}\n"
    )


# --- tables of the core -----------------------------------------------------------------------------------------------


def decision_table() -> str:
    rows = [
        (
            str(number),
            *(fact.value for fact in (row.git, row.recorded, row.live)),
            _owners(row.owner, live=row.live is not Fact.NO),
            row.operation,
            row.reason,
        )
        for number, row in enumerate(TABLE, 1)
    ]
    return table(("", "In Git", "Recorded", "Live", "Owner", "Operation", "Reason shown"), rows)


def _owners(owners: frozenset[Owner], *, live: bool) -> str:
    if not live:
        return "–"
    return "any" if len(owners) == len(Owner) else " or ".join(owner for owner in Owner if owner in owners)


def grave_kinds() -> str:
    names = sorted(kind for _, kind in guard.NEEDS_APPROVAL)
    return f"Kinds that need approval: {', '.join(f'`{name}`' for name in names)}.\n"


def own_annotations() -> str:
    rows = [
        (f"`{name}`", ", ".join(f"`{value}`" for value in values), _CONTROL_MEANINGS[name])
        for name, (_, values) in controls._CHOICES.items()
    ]
    rows += [
        (f"`{controls.WAVE}`", 'a whole number in quotes, such as `"-1"`', _CONTROL_MEANINGS[controls.WAVE]),
        (
            f"`{controls.DEPENDS_ON}`",
            "`Kind.group/namespace/name`, separated by commas",
            _CONTROL_MEANINGS[controls.DEPENDS_ON],
        ),
        *((f"`{name}`", "–", _CONTROL_MEANINGS[name]) for name in (controls.HOOK, controls.HOOK_DELETE)),
    ]
    return table(("Annotation", "Values", "Effect"), rows)


def foreign_annotations() -> str:
    rows = [
        (f"`{row.annotation}`", _asked(row), _SAME_AS.get(row.control, f"`gitsyncd.dev/apply: {row.setting}`"))
        for row in controls.EQUIVALENTS
    ]
    rows += [
        (f"`{controls.ARGO_WAVE}`", "a whole number", "`gitsyncd.dev/wave`"),
        (f"`{controls.ARGO_HOOK}`", "anything but `Skip`", "refused: hooks are not supported yet"),
        (
            f"`{controls.KPT_DEPENDS_ON}`",
            "`group/kind/name` or `group/namespaces/namespace/kind/name`, separated by commas",
            "`gitsyncd.dev/depends-on`",
        ),
        (
            f"`{controls.CLUSTER_SELECTOR}`",
            "names of clusters, separated by commas",
            "on other clusters `gitsyncd.dev/apply: ignore`",
        ),
    ]
    return table(("Annotation", "Value", "Stands for"), rows)


def _asked(row: controls.Equivalent) -> str:
    value = f"`{row.value}`"
    if row.value in controls._ALSO_NEEDED:
        value += f" together with `{controls._ALSO_NEEDED[row.value]}`"
    match row.match:
        case controls.Match.NOT_FALSE:
            return 'anything but `"false"`'
        case controls.Match.FOLDED:
            return f"{value}, in any case"
        case controls.Match.OPTION:
            return f"{value}, one of a comma separated list"
        case controls.Match.EXACT:
            return value


def writer_classes() -> str:
    parts = [
        f"## {writer}\n\n" + ", ".join(f"`{name}`" for name in sorted(names, key=str.casefold)) + "\n"
        for writer, names in writers.BUILT_IN.items()
    ]
    return "\n".join(parts)


# --- metrics ----------------------------------------------------------------------------------------------------------


def metrics_table() -> str:
    rows = [
        (f"`{PREFIX}{m.name}`", m.type, ", ".join(f"`{name}`" for name in m.labels) or "–", m.help) for m in METRICS
    ]
    return table(("Metric", "Type", "Labels", "Meaning"), rows)


# --- image policies ---------------------------------------------------------------------------------------------------

_CHOICES: tuple[tuple[Select, Filter | None, tuple[str, ...]], ...] = (
    (Select(rule=Rule.SEMVER, wanted=">=1.2 <2"), None, ("1.1.9", "1.2.0", "1.10.0", "1.11.0-rc.1", "2.0.0", "latest")),
    (Select(rule=Rule.SEMVER, wanted=">=1.2.0-0"), None, ("1.2.0", "1.3.0-rc.1")),
    (Select(rule=Rule.SEMVER, wanted="~1.2"), Filter(pattern="^v(?P<version>.+)-alpine$", extract="$version"), ("v1.2.1-alpine", "v1.2.9-alpine", "v1.2.10", "v1.3.0-alpine")),
    (Select(rule=Rule.ALPHABETICAL), None, ("2026-05-04", "2026-05-11", "2026-04-30")),
    (Select(rule=Rule.NUMERICAL), Filter(pattern="^main-(\\d+)$", extract="$1"), ("main-9", "main-10", "dev-99")),
    (Select(rule=Rule.NUMERICAL, order=Order.DESC), None, ("9", "10", "x")),
)  # fmt: skip


def image_choices() -> str:
    """Examples, with what `core.images` really makes of them."""
    rows = []
    for select, chosen, tags in _CHOICES:
        policy = ImagePolicy(name="front", image="registry.example.com/team/front", select=select, filter=chosen)
        key = f'semver: "{select.wanted}"' if select.wanted else f"{select.rule}: {select.order}"
        kept = f"`{chosen.pattern}`, `{chosen.extract}`" if chosen else ""
        rows.append((f"`{key}`", kept, ", ".join(f"`{tag}`" for tag in tags), f"`{ranked(policy, tags)[0]}`"))
    return table(("Rule", "Filter: pattern, extract", "Tags", "Selected"), rows)


# --- the recording ----------------------------------------------------------------------------------------------------

_SHOWN = (4, 7, 9)
"""Steps of the demo that the README shows: edits by hand, a commit that deletes too much, a kill."""
_MANY = 3
"""So many lines of a list, and so many commands of a step, before `…` stands for the rest."""


def recording() -> str:
    """Parts of `docs/recording.txt`, as they stand there; what is left out shows as `…`."""
    steps = re.split(r"^(?=\d+\. )", (ROOT / "docs/recording.txt").read_text(), flags=re.MULTILINE)
    numbered = {int(step.partition(".")[0]): step for step in steps[1:]}
    parts = [
        steps[0].rstrip(),
        *("…\n\n" + _cut(numbered[number]) for number in _SHOWN),
        "…",
        steps[-1].splitlines()[-1],
    ]
    return "```text\n" + "\n".join(parts) + "\n```\n"


def _cut(step: str) -> str:
    kept: list[str] = []
    listed = commands_seen = 0
    for line in step.rstrip().splitlines():
        listed = listed + 1 if line.startswith("       - ") else 0
        commands_seen += line.startswith(("   $ kubectl", "   $ KUBE"))
        summary = re.match(r"   (done|✓ \d)", line)
        if listed > _MANY or (commands_seen > _MANY and not summary):
            if kept[-1].strip() != "…":
                kept.append(line[: len(line) - len(line.lstrip())] + "…")
            continue
        kept.append(line)
    return "\n".join(kept) + "\n"


PRINTED: dict[str, Callable[[], str]] = {
    "commands": commands_page,
    "error-tree": error_tree,
    "errors": errors_page,
    "decision-table": decision_table,
    "grave-kinds": grave_kinds,
    "own-annotations": own_annotations,
    "foreign-annotations": foreign_annotations,
    "writers": writer_classes,
    "metrics": metrics_table,
    "recording": recording,
    "image-choices": image_choices,
}


def filled(text: str) -> str:
    """A page with what it prints brought up to date."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{PRINTED[block[2]]()}\n{block[3]}", text)


def main(arguments: list[str]) -> int:
    stale = [page for page in PAGES if filled(page.read_text()) != page.read_text()]
    for page in stale:
        if "--check" in arguments:
            print(f"{page} is not what the code says. fix: python -m tests.docs.generate", file=sys.stderr)
        else:
            page.write_text(filled(page.read_text()))
            print(f"printed {page}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

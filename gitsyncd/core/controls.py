"""What the annotations of an object ask for: our own, and those of other tools that stand for the same.

Both are tables, in the order in which the reference prints them. What is done about a control is decided elsewhere.
Annotations in Git are read strictly, because a control that is misspelt is a control that does not protect; annotations
of live objects are read leniently, because anybody may write anything there.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from gitsyncd.core.marks import ID_ANNOTATION, PATH_ANNOTATION, TARGET_ANNOTATION
from gitsyncd.model.errors import ManifestInvalid
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.immutable import immutable
from gitsyncd.model.manifest import DEFAULT_CONTROLS, Apply, Controls

PREFIX = "gitsyncd.dev/"
RECONCILE = PREFIX + "reconcile"
PRUNE = PREFIX + "prune"
APPLY = PREFIX + "apply"
ON_IMMUTABLE = PREFIX + "on-immutable"
WAVE = PREFIX + "wave"
DEPENDS_ON = PREFIX + "depends-on"
SUBSTITUTE = PREFIX + "substitute"
HOOK = PREFIX + "hook"
HOOK_DELETE = PREFIX + "hook-delete"
ARGO_WAVE = "argocd.argoproj.io/sync-wave"
ARGO_HOOK = "argocd.argoproj.io/hook"
KPT_DEPENDS_ON = "config.kubernetes.io/depends-on"
CLUSTER_SELECTOR = "configsync.gke.io/cluster-name-selector"

MARKS = frozenset({TARGET_ANNOTATION, ID_ANNOTATION, PATH_ANNOTATION})
"""Written by the agent itself. A manifest that was copied from a cluster may carry them; they are replaced."""

_SWITCH = {"disabled": False, "enabled": True}
_CHOICES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    RECONCILE: ("reconcile", _SWITCH),
    PRUNE: ("prune", _SWITCH),
    APPLY: ("apply", {mode.value: mode for mode in Apply}),
    ON_IMMUTABLE: ("recreate", {"recreate": True}),
    SUBSTITUTE: ("", {"disabled": None}),
}
"""Our annotations with a list of values: the field of `Controls` that is set, and what each value sets it to."""


class Match(Enum):
    """How another tool compares the value of its annotation."""

    EXACT = "exact"
    FOLDED = "without case"
    OPTION = "one of a comma separated list"
    NOT_FALSE = 'anything but "false"'


@immutable
class Equivalent:
    """One annotation of another tool that is honoured, and the control that it stands for."""

    annotation: str
    value: str
    match: Match
    control: str
    """A field of `Controls`."""
    setting: Any

    def asked_by(self, value: str) -> bool:
        match self.match:
            case Match.EXACT:
                return value == self.value
            case Match.FOLDED:
                return value.casefold() == self.value.casefold()
            case Match.OPTION:
                return self.value in {option.strip() for option in value.split(",")}
            case Match.NOT_FALSE:
                return value.casefold() != "false"


def _equivalent(annotation: str, value: str, match: Match, control: str, setting: Any) -> Equivalent:
    return Equivalent(annotation=annotation, value=value, match=match, control=control, setting=setting)


_FLUX = "kustomize.toolkit.fluxcd.io/"
_ARGO_OPTIONS = "argocd.argoproj.io/sync-options"
EQUIVALENTS: tuple[Equivalent, ...] = (
    _equivalent(_FLUX + "reconcile", "disabled", Match.FOLDED, "reconcile", False),
    _equivalent("configmanagement.gke.io/managed", "disabled", Match.EXACT, "reconcile", False),
    _equivalent("fluxcd.io/ignore", "true", Match.EXACT, "reconcile", False),
    _equivalent(_FLUX + "prune", "disabled", Match.FOLDED, "prune", False),
    _equivalent(_ARGO_OPTIONS, "Prune=false", Match.OPTION, "prune", False),
    _equivalent("client.lifecycle.config.k8s.io/deletion", "detach", Match.EXACT, "prune", False),
    _equivalent("cli-utils.sigs.k8s.io/on-remove", "keep", Match.EXACT, "prune", False),
    _equivalent("fluxcd.io/ignore", "sync_only", Match.EXACT, "prune", False),
    _equivalent("helm.sh/resource-policy", "keep", Match.FOLDED, "prune", False),
    _equivalent(_ARGO_OPTIONS, "Prune=confirm", Match.OPTION, "prune_needs_approval", True),
    _equivalent(_ARGO_OPTIONS, "Delete=confirm", Match.OPTION, "prune_needs_approval", True),
    # Never sent comes first: where two annotations of other tools differ, the first row wins.
    _equivalent("config.kubernetes.io/local-config", "", Match.NOT_FALSE, "apply", Apply.IGNORE),
    _equivalent(ARGO_HOOK, "Skip", Match.OPTION, "apply", Apply.IGNORE),
    _equivalent(_FLUX + "ssa", "Ignore", Match.FOLDED, "apply", Apply.IGNORE),
    _equivalent(_FLUX + "ssa", "IfNotPresent", Match.FOLDED, "apply", Apply.IF_NOT_PRESENT),
    _equivalent("client.lifecycle.config.k8s.io/mutation", "ignore", Match.EXACT, "apply", Apply.IF_NOT_PRESENT),
    _equivalent(_FLUX + "ssa", "Merge", Match.FOLDED, "apply", Apply.MERGE),
    _equivalent(_FLUX + "ssa", "Override", Match.FOLDED, "apply", Apply.OVERRIDE),
    _equivalent(_FLUX + "force", "enabled", Match.FOLDED, "recreate", True),
    # Argo CD deletes and creates only where both options stand.
    _equivalent(_ARGO_OPTIONS, "Force=true", Match.OPTION, "recreate", True),
)
_LONGEST_QUOTE = 60
_ALSO_NEEDED = {"Force=true": "Replace=true"}

FLUX_KEYS = frozenset(row.annotation for row in EQUIVALENTS if row.annotation.startswith(_FLUX))
"""Flux honours these as labels too (fluxcd/pkg, ssa/utils, AnyInMetadata)."""

_KNOWN = frozenset(row.annotation for row in EQUIVALENTS) | {ARGO_WAVE, ARGO_HOOK, KPT_DEPENDS_ON, CLUSTER_SELECTOR}
_OURS = (*_CHOICES, WAVE, DEPENDS_ON)


@immutable
class LiveControls:
    """What the annotations of a live object ask for, by whomever they were set."""

    reconcile_disabled: bool = False
    prune_disabled: bool = False
    prune_needs_approval: bool = False


NO_LIVE_CONTROLS = LiveControls()


def controls(
    annotations: Mapping[str, Any] | None, *, cluster: str = "", labels: Mapping[str, Any] | None = None
) -> Controls:
    """The controls of one manifest. Ours win over another tool's for the same thing.

    `cluster` is the name that the agent file gives the cluster, for selectors by cluster name; an object that is meant
    for others gets `Apply.IGNORE`. Returns the shared `DEFAULT_CONTROLS` where nothing is asked for.
    Raises `ManifestInvalid` naming annotation, value and allowed values; the caller knows file and line and adds them.
    """
    stated = _stated(annotations, labels)
    if not stated:
        return DEFAULT_CONTROLS
    _refuse_hooks(stated)
    found: dict[str, Any] = {}
    for annotation, value in stated.items():
        if annotation.startswith(PREFIX) and (setting := _own(annotation, value)):
            found[setting[0]] = setting[1]
    for control, setting in _foreign(stated):
        found.setdefault(control, setting)
    if CLUSTER_SELECTOR in stated and not _selects(stated[CLUSTER_SELECTOR], cluster):
        found["apply"] = Apply.IGNORE
    result = Controls(**found)
    return DEFAULT_CONTROLS if result == DEFAULT_CONTROLS else result


def live_controls(annotations: Mapping[str, Any] | None, labels: Mapping[str, Any] | None = None) -> LiveControls:
    """The controls that count on a live object. Total: values that are not understood ask for nothing."""
    if not isinstance(annotations, Mapping):
        annotations = {}
    if not isinstance(labels, Mapping):
        labels = {}
    if not _mentions(annotations) and FLUX_KEYS.isdisjoint(labels):
        return NO_LIVE_CONTROLS
    stated = {key: value for key, value in labels.items() if key in FLUX_KEYS and isinstance(value, str)}
    stated |= {key: value for key, value in annotations.items() if isinstance(value, str)}
    found: dict[str, Any] = {}
    for annotation in (RECONCILE, PRUNE):
        control, values = _CHOICES[annotation]
        if (setting := values.get(stated.get(annotation, "").casefold())) is not None:
            found[control] = setting
    for control, setting in _settings_of_others(stated):
        found.setdefault(control, setting)
    return LiveControls(
        reconcile_disabled=not found.get("reconcile", True),
        prune_disabled=not found.get("prune", True),
        prune_needs_approval=found.get("prune_needs_approval", False),
    )


def _mentions(annotations: Mapping[str, Any]) -> bool:
    return any(key in _KNOWN or key.startswith(PREFIX) for key in annotations)


def _stated(annotations: Mapping[str, Any] | None, labels: Mapping[str, Any] | None) -> dict[str, str]:
    """The annotations that this module knows, and Flux's labels; annotations win."""
    stated: dict[str, str] = {}
    for key in FLUX_KEYS.intersection(labels) if labels else ():
        stated[key] = _text(key, (labels or {})[key])
    for key, value in (annotations or {}).items():
        if key in _KNOWN or (key.startswith(PREFIX) and key not in MARKS):
            stated[key] = _text(key, value)
    return stated


def _text(annotation: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ManifestInvalid(
            f"annotation {annotation} is {_shown(value)}, which is not a string",
            hint=f'Write the value in quotes, such as {annotation}: "{_shown(value)}".',
        )
    return value


def _shown(value: Any) -> str:
    """A value of a manifest as a message quotes it: never long."""
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)[:40] if isinstance(value, (int, float)) else "a map or a list"


def _quoted(value: str) -> str:
    return repr(value if len(value) <= _LONGEST_QUOTE else value[:_LONGEST_QUOTE] + "…")


def _refuse_hooks(stated: Mapping[str, str]) -> None:
    for annotation in (HOOK, HOOK_DELETE):
        if annotation in stated:
            _refuse_hook(annotation, stated[annotation])
    hooks = {hook.strip() for hook in stated.get(ARGO_HOOK, "").split(",")} - {"", "Skip"}
    if hooks:
        _refuse_hook(ARGO_HOOK, stated[ARGO_HOOK])


def _refuse_hook(annotation: str, value: str) -> None:
    raise ManifestInvalid(
        f"annotation {annotation} is {_quoted(value)}, and hooks are not supported yet",
        hint=f"Remove it to apply the object like any other, or write {APPLY}: ignore to keep it out of clusters.",
    )


def _own(annotation: str, value: str) -> tuple[str, Any] | None:
    """The field and its value for one of our annotations. None for one that has no effect."""
    if annotation in _CHOICES:
        control, values = _CHOICES[annotation]
        if value not in values:
            allowed = " or ".join(values)
            raise ManifestInvalid(f"annotation {annotation} is {_quoted(value)}", hint=f"Write {allowed}.")
        return (control, values[value]) if control else None
    if annotation == WAVE:
        return "wave", _wave(annotation, value)
    if annotation == DEPENDS_ON:
        return "depends_on", _ids(annotation, value, ObjectId.parse, "Kind.group/namespace/name")
    names = [name.removeprefix(PREFIX) for name in _OURS]
    near = difflib.get_close_matches(annotation.removeprefix(PREFIX), names, n=1)
    hint = f"Did you mean {PREFIX}{near[0]}?" if near else f"Known are {', '.join(_OURS)}."
    raise ManifestInvalid(f"annotation {annotation} is unknown", hint=hint)


def _foreign(stated: Mapping[str, str]) -> list[tuple[str, Any]]:
    """What other tools' annotations ask for, in the order of the table."""
    settings = _settings_of_others(stated)
    if ARGO_WAVE in stated:
        settings.append(("wave", _wave(ARGO_WAVE, stated[ARGO_WAVE])))
    if KPT_DEPENDS_ON in stated:
        form = "group/kind/name or group/namespaces/namespace/kind/name"
        settings.append(("depends_on", _ids(KPT_DEPENDS_ON, stated[KPT_DEPENDS_ON], _parse_kpt, form)))
    return settings


def _settings_of_others(stated: Mapping[str, str]) -> list[tuple[str, Any]]:
    return [
        (row.control, row.setting)
        for row in EQUIVALENTS
        if (value := stated.get(row.annotation)) is not None
        and row.asked_by(value)
        and (row.value not in _ALSO_NEEDED or _ALSO_NEEDED[row.value] in {part.strip() for part in value.split(",")})
    ]


def _wave(annotation: str, value: str) -> int:
    digits = value.strip().removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        raise ManifestInvalid(
            f"annotation {annotation} is {_quoted(value)}", hint='Write a whole number in quotes, such as "-1" or "5".'
        )
    return int(value)


def _ids(annotation: str, value: str, parse: Callable[[str], ObjectId], form: str) -> tuple[ObjectId, ...]:
    try:
        return tuple(dict.fromkeys(parse(part.strip()) for part in value.split(",") if part.strip()))
    except ValueError as error:
        raise ManifestInvalid(
            f"annotation {annotation} is {_quoted(value)}: {error}", hint=f"Write {form}, separated by commas."
        ) from error


def _parse_kpt(text: str) -> ObjectId:
    """The form of kpt (cli-utils, pkg/object/dependson): the group may be empty, its slash may not be left out."""
    match text.split("/"):
        case [group, kind, name] if kind and name:
            return ObjectId(group=group, kind=kind, namespace="", name=name)
        case [group, "namespaces", namespace, kind, name] if namespace and kind and name:
            return ObjectId(group=group, kind=kind, namespace=namespace, name=name)
    raise ValueError(f"{_quoted(text)} names no object")


def _selects(value: str, cluster: str) -> bool:
    return cluster in {name.strip() for name in value.split(",")}

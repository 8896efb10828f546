"""The status as people read it: one line that says it all, then what is not right, worst first, each with its fix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from gitsyncd.model.immutable import immutable
from gitsyncd.text.layout import Column, Paint, Table, age, bar, clean, flat, short, wrapped

Item = Mapping[str, Any]
_STATES = {
    "failed": "red", "refused": "red", "held": "red", "unknown": "yellow", "waiting": "yellow", "unmanaged": "yellow",
    "suspended": "yellow", "syncing": "blue", "in-sync": "green",
}  # fmt: skip
"""The worst first: the order of the lines."""
_HEALTHS = {
    "current": "green",
    "unknown": "dim",
    "in-progress": "yellow",
    "not-found": "yellow",
    "terminating": "yellow",
}
_PLACES = {"ready": "green", "standby": "blue", "unknown": "yellow", "unused": "yellow"}
_CALM_HEALTH = frozenset({"current", "unknown"})

FEW = 20
"""Up to so many targets, sources or clusters all are shown; of more only those that are not right."""
_MOST = 30
_PROBLEMS = 3
_PROBLEMS_OF_ONE = 10
_OBJECTS = 3
_BAR = 40
_STUCK = "\N{NO-BREAK SPACE}"


@immutable
class View:
    """How the status is to be shown."""

    now: datetime
    width: int | None = None
    """Columns of the terminal; None where lines may be as long as they are: what is piped is searched by line."""
    colours: bool = False
    everything: bool = False
    """Nothing is left out for being many, or right."""
    named: bool = False
    """Targets were named: sources and clusters that are none of theirs are left out."""
    bars: bool = False
    brief: bool = False
    """Sources and clusters are shown only where something is not right."""


def status_text(answer: Item, view: View) -> str:
    """The answer of `status`."""
    return "\n".join(_Status(answer, view).lines())


class _Status:
    def __init__(self, answer: Item, view: View) -> None:
        self._answer = answer
        self._view = view
        self._paint = Paint(on=view.colours)
        self._standby = {item["cluster"]: item for item in answer["clusters"] if item["state"] == "standby"}
        self._targets: Sequence[Item] = sorted(answer["targets"], key=self._rank)
        self._sources = self._concerned("source", {target.get("source") for target in self._targets})
        self._clusters = self._concerned("cluster", {target["target"].partition("@")[2] for target in self._targets})

    def _concerned(self, kind: str, names: set[Any]) -> list[Item]:
        return [item for item in self._answer[f"{kind}s"] if not self._view.named or item[kind] in names]

    def lines(self) -> Iterator[str]:
        for line in wrapped(self._summary(), self._view.width, first="", rest="  "):
            yield self._paint(line.replace(_STUCK, " "), self._worst_colour())
        yield from self._configuration()
        for warning in self._answer.get("warnings") or ():
            yield from self._wrapped(f"warning: {flat(warning)}", "", "  ", "yellow")
        yield from self._target_lines()
        yield from self._place_lines("source", self._sources)
        yield from self._place_lines("cluster", self._clusters)

    # --- the summary ---------------------------------------------------------------------------------------------

    def _summary(self) -> str:
        count = Counter(str(target["state"]) for target in self._targets)
        total = len(self._targets)
        parts = [f"{count['in-sync']} of {_count(total, 'target')} in sync"]
        parts += [f"{count[state]} {state}" for state in _STATES if count[state] and state != "in-sync"]
        unhealthy = sum(t["state"] == "in-sync" and t["health"] not in _CALM_HEALTH for t in self._targets)
        parts += [f"{unhealthy} in sync and not healthy"] if unhealthy else []
        for kind, items in (("source", self._sources), ("cluster", self._clusters)):
            off = sum(item["state"] == "unreachable" for item in items)
            parts += [f"{off} of {_count(len(items), kind)} unreachable"] if off else []
        standby = sum(item["state"] == "standby" for item in self._clusters)
        parts += [f"standing by on {standby} of {_count(len(self._clusters), 'cluster')}"] if standby else []
        parts += ["the agent file is refused"] if self._refusal else []
        return f"{clean(self._answer.get('agent', ''))}: {', '.join(part.replace(' ', _STUCK) for part in parts)}"

    def _worst_colour(self) -> str:
        if self._refusal:
            return "red"
        if all(map(self._calm, self._targets)):
            return "blue" if self._standby and self._targets and self._elsewhere(self._targets[-1]) else "green"
        worst = self._targets[0]["state"]
        return "yellow" if worst == "in-sync" else _STATES.get(worst, "bold")

    @property
    def _refusal(self) -> str:
        """Why the agent file as it stands now is not in force; the daemon goes on with what it said before."""
        return str((self._answer.get("configuration") or {}).get("error") or "")

    def _configuration(self) -> Iterator[str]:
        if self._refusal:
            said = self._answer["configuration"]
            what, *more = self._refusal.split("\n")
            yield from self._wrapped(f"{flat(said['file'])} is not in force: {flat(what)}", "  ", "    ", "red")
            for line in more:
                yield from self._wrapped(flat(line), "    ", "      ", "red")
            if said.get("hint"):
                yield from self._wrapped(f"fix: {flat(said['hint'])}", "    ", "      ")
            yield from self._wrapped("What it said before stays in force.", "    ", "      ")

    # --- targets -------------------------------------------------------------------------------------------------

    def _target_lines(self) -> Iterator[str]:
        shown = self._of_interest(self._targets, self._calm)
        if shown:
            heads = (
                Column("TARGET", shrinks=True), Column("STATE"), Column("FOR", 2, right=True),
                Column("REVISION", 3, shrinks=True), Column("OBJECTS", 5, right=True), Column("HEALTH", 1),
                Column("TURN", 6, right=True),
            )  # fmt: skip
            rows = [self._row(target) for target in shown]
            table = Table(heads, rows, self._view.width)
            yield ""
            yield table.head(self._paint)
            for target, row in zip(shown, rows, strict=True):
                state = "blue" if self._elsewhere(target) else _STATES.get(target["state"], "")
                colours = {1: state, 5: _HEALTHS.get(target["health"], "red")}
                yield table.row(row, self._paint, colours)
                yield from self._details(target)
        yield from self._left_out(shown, self._targets, self._calm, "target", "in sync")

    def _row(self, target: Item) -> list[str]:
        state, progress = str(target["state"]), target.get("progress")
        if state == "syncing" and progress:
            state += f" {progress['done']}/{progress['total']}"
        revision, admitted = short(target["revision"]), short(target.get("admitted"))
        if admitted not in {"", revision}:
            branch = revision.rpartition("@")[0]
            revision = f"{revision} -> {admitted.removeprefix(f'{branch}@')}".lstrip()
        now = self._view.now
        return [
            clean(target["target"]), state, age(target["since"], now), revision, str(target["objects"]),
            str(target["health"]), age(target.get("last_turn"), now),
        ]  # fmt: skip

    def _details(self, target: Item) -> Iterator[str]:
        progress = target.get("progress")
        if progress and self._view.bars and target["state"] == "syncing":
            room = min(_BAR, (self._view.width or _BAR + 4) - 4)
            yield f"  {self._paint(bar(progress['done'], progress['total'], room), 'blue')}"
        if suspended := target.get("suspended"):
            left = age(suspended["until"], self._view.now)
            end = f"for another {left}" if left else "until the agent file says otherwise"
            yield from self._wrapped(f"suspended {end}: {flat(suspended['reason'])}", "  ", "    ")
        missing = target["health"] == "not-found" and any(problem["object"] for problem in target["problems"])
        if target["health"] not in _CALM_HEALTH and target.get("health_message") and not missing:
            yield from self._wrapped(f"{target['health']}: {flat(target['health_message'])}", "  ", "    ", "yellow")
        if self._elsewhere(target):
            writer = holder(self._standby[_cluster_of(target)].get("writer") or "another daemon")
            yield from self._wrapped(f"{writer} writes to this cluster, and this daemon stands by", "  ", "    ")
        else:
            yield from self._problems(target)

    def _problems(self, target: Item) -> Iterator[str]:
        groups: dict[tuple[str, str], list[str]] = {}
        for problem in target["problems"]:
            place = self._place_of(problem)
            said = (place, "") if place else (flat(problem["error"]), flat(problem["hint"]))
            groups.setdefault(said, []).append(flat(problem["object"]))
        most = _PROBLEMS_OF_ONE if len(self._targets) == 1 else _PROBLEMS
        most = len(groups) if self._view.everything or len(groups) == most + 1 else most
        for (error, hint), objects in list(groups.items())[:most]:
            yield from self._problem(error, hint, [name for name in objects if name])
        left = sum(len(objects) for objects in list(groups.values())[most:])
        if left:
            more = f"and {left} more problems: gitsyncd status {clean(target['target'])} --all"
            yield from self._wrapped(more, "  ", "    ", "dim")

    def _problem(self, error: str, hint: str, objects: Sequence[str]) -> Iterator[str]:
        most = len(objects) if self._view.everything else _OBJECTS
        where = ", ".join(objects[:most])
        if objects[most:]:
            where += f" and {len(objects) - most} more"
        yield from self._wrapped(f"{where}: {error}" if where else error, "  ", "    ", "red")
        if hint:
            yield from self._wrapped(f"fix: {hint}", "    ", "      ")

    def _place_of(self, problem: Item) -> str:
        """Where this is told once for all: a cluster out of reach is a problem of each of its targets."""
        if problem["object"]:
            return ""
        for kind, items in (("cluster", self._clusters), ("source", self._sources)):
            for item in items:
                if item["error"] == problem["error"]:
                    return f"{kind} {clean(item[kind])} is {item['state']}: see below"
        return ""

    # --- sources and clusters ------------------------------------------------------------------------------------

    def _place_lines(self, kind: str, items: Sequence[Item]) -> Iterator[str]:
        if self._view.brief:
            items = [item for item in items if not _is_ready(item)]
        shown = self._of_interest(
            sorted(items, key=lambda item: (_is_ready(item), item["state"] == "ready")), _is_ready
        )
        now = self._view.now
        if kind == "source":
            heads = [Column("REVISION", 2, shrinks=True), Column("ANSWERED", 4, right=True)]
            rows = [[short(item["revision"]), age(item.get("answered"), now)] for item in shown]
        else:
            heads = [Column("SERVER", 2, shrinks=True), Column("WRITER", 3, shrinks=True)]
            rows = [[clean(item.get("server_version") or ""), holder(item.get("writer") or "")] for item in shown]
        if shown:
            heads = [Column(kind.upper(), shrinks=True), Column("STATE"), Column("FOR", 1, right=True), *heads]
            rows = [
                [clean(item[kind]), str(item["state"]), age(item["since"], now), *more]
                for item, more in zip(shown, rows, strict=True)
            ]
            table = Table(heads, rows, self._view.width)
            yield ""
            yield table.head(self._paint)
            for item, row in zip(shown, rows, strict=True):
                yield table.row(row, self._paint, {1: _PLACES.get(item["state"], "red")})
                yield from self._trouble(item)
        yield from self._left_out(shown, items, _is_ready, kind, "ready")

    def _trouble(self, item: Item) -> Iterator[str]:
        if item["error"]:
            yield from self._problem(flat(item["error"]), flat(item.get("hint") or ""), ())
        for warning in item.get("warnings") or ():
            yield from self._wrapped(f"warning: {flat(warning)}", "  ", "    ", "yellow")

    # --- the shared parts ----------------------------------------------------------------------------------------

    def _rank(self, target: Item) -> tuple[int, bool]:
        states = list(_STATES)
        if self._elsewhere(target):
            return len(states), True
        return states.index(target["state"]) if target["state"] in _STATES else -1, self._calm(target)

    def _elsewhere(self, target: Item) -> bool:
        """Whether it is another daemon's for now, which is no trouble."""
        return target["state"] == "waiting" and _cluster_of(target) in self._standby

    def _calm(self, target: Item) -> bool:
        """Whether there is nothing to say of it."""
        well = target["state"] == "in-sync" and target["health"] in _CALM_HEALTH and not target["problems"]
        return well or self._elsewhere(target)

    def _of_interest(self, items: Sequence[Item], calm: Any) -> Sequence[Item]:
        if self._view.everything or len(items) <= FEW:
            return items
        return [item for item in items if not calm(item)][:_MOST]

    def _left_out(self, shown: Sequence[Item], items: Sequence[Item], calm: Any, kind: str, well: str) -> Iterator[str]:
        """How many are not shown, and how to see them."""
        visible = set(map(id, shown))
        hidden = [item for item in items if id(item) not in visible]
        other = sum(not calm(item) for item in hidden)
        standby = sum(item["state"] in {"standby", "waiting"} and calm(item) for item in hidden)
        quiet = len(hidden) - other - standby
        parts = [f"{other} more that are not {well}"] if other else []
        parts += [f"{_count(quiet, kind)} {well}"] if quiet else []
        parts += [f"{_count(standby, kind)} that another daemon writes to"] if standby else []
        if parts:
            yield ""
            yield from self._wrapped(f"not shown: {', '.join(parts)}: gitsyncd status --all", "", "  ", "dim")

    def _wrapped(self, text: str, first: str, rest: str, colour: str = "") -> Iterable[str]:
        for line in wrapped(text, self._view.width, first=first, rest=rest):
            words = line.lstrip(" ")
            yield " " * (len(line) - len(words)) + self._paint(words, colour)


def holder(name: str) -> str:
    """The part of a lease holder's name that people can use: `host/pid`."""
    parts = name.rsplit("/", 3)
    return flat("/".join(parts[:2]) if len(parts) == 4 else name)


def _cluster_of(target: Item) -> str:
    return str(target["target"]).partition("@")[2]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _is_ready(place: Item) -> bool:
    """Whether there is nothing to say of it: one that another daemon writes to is in good hands."""
    return place["state"] in {"ready", "standby"} and not place.get("warnings")

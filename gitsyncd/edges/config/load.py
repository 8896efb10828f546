"""The agent file, from disk to a configuration: read, located, checked, resolved, and all its mistakes told at once."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gitsyncd.edges.config.mistakes import Mistakes
from gitsyncd.edges.config.resolve import Draft, resolve
from gitsyncd.edges.config.schema import VERSION, AgentFile
from gitsyncd.edges.config.wording import word
from gitsyncd.edges.yaml.agentfile import KeyPath, read
from gitsyncd.model.errors import ConfigError
from gitsyncd.model.target import Configuration

MAX_BYTES = 1024 * 1024
"""A thousand clusters with a target each are some 300 kB."""
_LISTS = ("sources", "clusters", "targets")
_STAND_IN = {"name": "unnamed"}
"""An agent to go on with when the file has none that can be used."""


def load(path: Path, environ: Mapping[str, str], *, opened: bool = True, shown: str = "") -> Configuration:
    """The configuration that the file at `path` asks for. Reaches no network; opens the files that it names.

    Mistakes name it as `shown`, if that is given. With `opened` false no files are opened: who asks the daemon for
    something need not have its credentials.

    `environ` is asked for `CREDENTIALS_DIRECTORY` only, when a file name holds `{credentials}`.
    Raises `ConfigError`, whose `mistakes` are all that is wrong, in the order of the file.
    """
    mistakes = Mistakes(shown or str(path))
    located = read(_text(path, mistakes))
    mistakes.locate(located.lines)
    for problem in located.problems:
        mistakes.add(problem.path, problem.what, problem.fix, line=problem.line)
    if located.fatal or not _is_ours(located.value, mistakes):
        raise mistakes.error()
    configuration = resolve(_draft(located.value, mistakes), path.absolute(), environ, mistakes, opened=opened)
    mistakes.raise_if_any()
    return configuration


def _text(path: Path, mistakes: Mistakes) -> str:
    """The content of the file. Raises `ConfigError`."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise _refused(mistakes, "is a folder", "name a file, such as gitsyncd.yaml in it")
        if not stat.S_ISREG(mode):
            raise _refused(mistakes, "is not a regular file", "name the agent file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _refused(mistakes, "does not exist", "name the agent file with --config or $GITSYNCD_CONFIG") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no such name"
        raise _refused(mistakes, f"cannot be read: {why}", "check the name, the owner and the mode") from error
    if len(content) > MAX_BYTES:
        raise _refused(mistakes, f"is larger than {MAX_BYTES:,} bytes", "this is no agent file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refused(mistakes, "is not UTF-8 text", "save it as UTF-8", line) from None


def _refused(mistakes: Mistakes, what: str, fix: str, line: int = 0) -> ConfigError:
    mistakes.add((), what, fix, line=line)
    return mistakes.error()


def _is_ours(value: Any, mistakes: Mistakes) -> bool:
    """Whether it makes sense to look further: a map of the version that we know."""
    if value is None:
        mistakes.add((), "is empty", f"begin with version: {VERSION}", line=1)
    elif not isinstance(value, dict):
        mistakes.add((), "is not a map", f"begin with version: {VERSION}")
    elif "version" not in value:
        mistakes.add(("version",), "is missing", f"write version: {VERSION} at the top", line=1)
    elif type(value["version"]) is not int or value["version"] != VERSION:
        mistakes.add(("version",), "is not one that this gitsyncd reads", f"write version: {VERSION}")
    else:
        return True
    return False


def _draft(value: dict[str, Any], mistakes: Mistakes) -> Draft:
    """What can be understood of the file. The rest is told and taken out, so that the other checks can run as well."""
    kept = _Kept(value)
    parsed, errors = _validated(kept)
    told = False
    while parsed is None:
        for path, what, fix, kind in errors:
            # What is missing later on was taken out here.
            if not told:
                mistakes.add(path, what, fix)
            kept.take_out(path, kind)
        told = True
        parsed, errors = _validated(kept)
    return Draft(
        file=parsed,
        sources=dict(zip(kept.positions("sources"), parsed.sources, strict=True)),
        clusters=dict(zip(kept.positions("clusters"), parsed.clusters, strict=True)),
        targets=dict(zip(kept.positions("targets"), parsed.targets, strict=True)),
        names={key: _names(value.get(key)) for key in _LISTS},
    )


def _validated(kept: _Kept) -> tuple[AgentFile | None, list[tuple[KeyPath, str, str, str]]]:
    """The parsed file, or what is wrong: key, what, fix, and pydantic's name for the mistake."""
    try:
        return AgentFile.model_validate(kept.plain()), []
    except ValidationError as error:
        words = [(word(entry), entry["type"]) for entry in error.errors(include_url=False)]
        # All places are found before the first item is taken out.
        return None, [(kept.original(path), what, fix, kind) for (path, what, fix), kind in words]


def _names(items: Any) -> frozenset[str]:
    """The names that the file gives, also those of items that have other mistakes."""
    found = [item.get("name") for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return frozenset(name for name in found if isinstance(name, str))


class _Kept:
    """The values of the file less what was refused. Items of the three lists keep their place in the file."""

    def __init__(self, value: dict[str, Any]) -> None:
        self._sections = {key: item for key, item in value.items() if key not in _LISTS}
        self._items: dict[str, dict[int, Any]] = {}
        for key in _LISTS:
            if isinstance(value.get(key), list):
                self._items[key] = {
                    index: dict(item) if isinstance(item, dict) else item for index, item in enumerate(value[key])
                }
            elif key in value:
                self._sections[key] = value[key]

    def plain(self) -> dict[str, Any]:
        return self._sections | {key: list(items.values()) for key, items in self._items.items()}

    def positions(self, key: str) -> list[int]:
        return list(self._items.get(key, ()))

    def original(self, path: KeyPath) -> KeyPath:
        """The path in the file of one in `plain`."""
        match path:
            case (str(key), int(index), *rest) if key in self._items:
                return (key, self.positions(key)[index], *rest)
        return path

    def take_out(self, path: KeyPath, kind: str) -> None:
        """Remove what was refused, by its path in the file and pydantic's name for the mistake.

        An unknown key goes alone, a wrong value with the key of the item that holds it, an item that lacks what it must
        have as a whole.
        """
        match path:
            case (str(key), int(index), *rest) if key in self._items:
                self._take_from_item(self._items[key], index, rest, kind)
            case ("agent",):
                self._sections["agent"] = dict(_STAND_IN)
            case ("agent", "name") if kind == "missing":
                self._sections["agent"] = self._sections["agent"] | _STAND_IN
            case ("agent", *rest):
                self._sections["agent"] = _without(self._sections["agent"], rest if kind == _UNKNOWN else rest[:1])
            case _:
                self._sections.pop(str(path[0]), None)

    def _take_from_item(self, items: dict[int, Any], index: int, rest: list[str | int], kind: str) -> None:
        if index not in items:
            return
        if not rest or (kind == "missing" and len(rest) == 1):
            del items[index]
        else:
            items[index] = _without(items[index], rest if kind == _UNKNOWN else rest[:1])


_UNKNOWN = "extra_forbidden"


def _without(value: Any, path: list[str | int]) -> Any:
    """A copy of `value` that lacks the key at `path`."""
    if isinstance(value, list) and isinstance(path[0], int):
        return [_without(item, path[1:]) if index == path[0] else item for index, item in enumerate(value)]
    if not isinstance(value, dict) or path[0] not in value:
        return value
    rest = {key: item for key, item in value.items() if key != path[0]}
    if len(path) == 1:
        return rest
    return rest | {str(path[0]): _without(value[str(path[0])], path[1:])}

"""Collecting what is wrong in an agent file, so that everything is told at once and each thing with its line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gitsyncd.edges.yaml.agentfile import KeyPath
from gitsyncd.model.errors import ConfigError, Mistake

HINT = "Correct the file and look again with `gitsyncd check`."


def dotted(path: Iterable[str | int]) -> str:
    """`targets[0].prune.max_objects`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class Mistakes:
    """The mistakes of one file. `spoilt` keys were refused, so that nothing further is concluded from them."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._lines: Mapping[KeyPath, int] = {}
        self._found: dict[tuple[int, str, str], Mistake] = {}
        self._spoilt: set[KeyPath] = set()

    def locate(self, lines: Mapping[KeyPath, int]) -> None:
        """Where keys stand, from now on."""
        self._lines = lines

    def add(self, path: KeyPath, what: str, fix: str = "", *, line: int | None = None) -> None:
        """`line` overrides the line of the key, or of the nearest one around it that is there."""
        self._spoilt.add(path)
        where = self._line(path) if line is None else line
        mistake = Mistake(file=self._file, line=where, path=dotted(path), what=what, fix=fix)
        self._found.setdefault((where, mistake.path, what), mistake)

    def spoilt(self, *path: str | int) -> bool:
        """Whether something at this key, or below it, was refused."""
        return any(found[: len(path)] == path for found in self._spoilt)

    def error(self) -> ConfigError:
        """All mistakes in the order of the file."""
        ordered = tuple(mistake for _, mistake in sorted(self._found.items()))
        return ConfigError("\n".join(map(str, ordered)), mistakes=ordered, hint=HINT)

    def raise_if_any(self) -> None:
        if self._found:
            raise self.error()

    def _line(self, path: KeyPath) -> int:
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

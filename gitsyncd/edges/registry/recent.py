"""What was looked at last, up to a number; the oldest makes room."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Recent(Generic[_Value]):
    """By keys of several texts."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[tuple[str, ...], _Value] = OrderedDict()

    def get(self, *key: str) -> _Value | None:
        if (found := self._values.get(key)) is not None:
            self._values.move_to_end(key)
        return found

    def put(self, value: _Value, *key: str) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)

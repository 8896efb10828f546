"""Values with named fields: the dataclasses of this program, at a third of what they take to define.

`dataclass(frozen=True)` compiles six methods for each class when its module is imported, a fifth of the CPU that a
start of the daemon took, and its `__init__` makes a call for each field. Here Python compiles `__init__` alone; the
others are closures over the names of the fields. That no field is assigned to is left to the type checker. Figures are
in ADR 0035.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def immutable(cls: type[T], /) -> type[T]: ...
@overload
def immutable(*, kw_only: bool) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def immutable(cls: type[T] | None = None, /, *, kw_only: bool = True) -> type[T] | Callable[[type[T]], type[T]]:
    """A dataclass with slots, to all who look (`fields`, `replace`, `match`, pickle); equal where all fields are.

    As there, a method that the class has by itself stays, and `repr=False` of a field keeps its value out of the text.
    """
    if cls is None:
        return lambda cls: _made(cls, kw_only=kw_only)
    return _made(cls, kw_only=kw_only)


def _made(cls: type[T], *, kw_only: bool) -> type[T]:
    made = dataclass(repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
    shown = [each.name for each in fields(made) if each.repr]  # type: ignore[arg-type]  # it is one since a line
    values = _getter([each.name for each in fields(made) if each.compare])  # type: ignore[arg-type]  # likewise

    def text(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def equal(self: Any, other: object) -> Any:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(values(self))

    for name, method in (("__repr__", text), ("__eq__", equal), ("__hash__", hashed)):
        if name not in cls.__dict__:
            setattr(made, name, method)
    return made


def _getter(names: list[str]) -> Callable[[Any], Any]:
    """All of them at once, as one value that can be compared and hashed."""
    return attrgetter(*names) if names else lambda _self: ()

"""Values are dataclasses to all who look, and equal, hashed and shown by their fields."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field, fields, is_dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.model.immutable import immutable


@immutable
class Door:
    """A value with all that fields can be."""

    name: str
    key: str = field(default="", repr=False)
    seen: int = field(default=0, compare=False)
    hinges: tuple[str, ...] = ()
    marks: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_open(self) -> bool:
        return not self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The same by the standard library, which is right by definition."""

    name: str
    key: str = field(default="", repr=False)
    seen: int = field(default=0, compare=False)
    hinges: tuple[str, ...] = ()
    marks: frozenset[str] = field(default_factory=frozenset)


@immutable
class Gate(Door):
    """With a field more."""

    width: int = 1


@immutable(kw_only=False)
class Pair:
    """Fields by their place."""

    left: int
    right: int = 2

    def __str__(self) -> str:
        return f"{self.left}-{self.right}"


@immutable
class Nothing:
    """No field at all."""


@immutable
class Named:
    """With a text of its own."""

    name: str

    def __repr__(self) -> str:
        return f"<{self.name}>"


_TEXTS = st.sampled_from(["", "a", "b"])
_FIELDS = st.fixed_dictionaries(
    {"name": _TEXTS},
    optional={
        "key": _TEXTS,
        "seen": st.integers(0, 1),
        "hinges": st.lists(_TEXTS, max_size=2).map(tuple),
        "marks": st.frozensets(_TEXTS),
    },
)


@given(_FIELDS, _FIELDS)
def test_it_is_as_the_standard_library_has_it(one: dict[str, object], other: dict[str, object]) -> None:
    ours, theirs = (Door(**one), Door(**other)), (Model(**one), Model(**other))  # type: ignore[arg-type]

    assert (ours[0] == ours[1]) == (theirs[0] == theirs[1])
    assert [hash(each) for each in ours] == [hash(each) for each in theirs]
    assert [repr(each) for each in ours] == [repr(each).replace("Model", "Door") for each in theirs]


def test_it_is_a_dataclass_to_all_who_look() -> None:
    door = Door(name="front", key="secret")

    assert is_dataclass(door)
    assert [each.name for each in fields(door)] == ["name", "key", "seen", "hinges", "marks"]
    assert replace(door, key="") == Door(name="front")
    assert replace(door, key="").is_open
    assert pickle.loads(pickle.dumps(door)) == door
    assert copy.deepcopy(door) == door
    match Pair(1):
        case Pair(left, right):
            assert (left, right) == (1, 2)


def test_it_has_no_room_for_what_is_no_field() -> None:
    with pytest.raises(AttributeError):
        Door(name="front").colour = "red"  # type: ignore[attr-defined]
    assert not hasattr(Door(name="front"), "__dict__")


def test_what_is_kept_out_of_the_text_is_not_in_it() -> None:
    assert "secret" not in repr(Door(name="front", key="secret"))


def test_a_value_of_another_class_is_another_value() -> None:
    assert Gate(name="a") != Door(name="a")
    assert Gate(name="a", width=2) != Gate(name="a")
    assert Gate(name="a") == Gate(name="a")
    assert Pair(1).__eq__((1, 2)) is NotImplemented
    assert Nothing() == Nothing()
    assert len({Nothing(), Nothing(), Pair(1), Pair(1, 2), Pair(2, 1)}) == 3


def test_a_field_that_cannot_be_hashed_is_named_by_python() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Door(name="a", marks=set()))  # type: ignore[arg-type]


def test_methods_of_the_class_itself_stay() -> None:
    assert repr(Named(name="x")) == "<x>"
    assert (str(Pair(1)), repr(Pair(1))) == ("1-2", "Pair(left=1, right=2)")


@pytest.mark.parametrize(("arguments", "names"), [((1,), {}), ((), {}), ((), {"name": "a", "colour": "red"})])
def test_wrong_arguments_are_refused(arguments: tuple[int, ...], names: dict[str, str]) -> None:
    with pytest.raises(TypeError):
        Door(*arguments, **names)  # type: ignore[arg-type]


def test_a_mutable_default_is_refused_as_there() -> None:
    with pytest.raises(ValueError, match="mutable default"):

        @immutable
        class _Shared:
            """Two values would share a list."""

            names: list[str] = []  # noqa: RUF012 - what is refused

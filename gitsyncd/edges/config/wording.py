"""pydantic's errors in our words: what is wrong and what to write. Values are not quoted, since they may be secret."""

from __future__ import annotations

import difflib
import json
import re
import types
from collections.abc import Collection, Iterable
from typing import Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from gitsyncd.edges.config.schema import AgentFile
from gitsyncd.edges.config.section import Section
from gitsyncd.edges.yaml.agentfile import KeyPath

_SECRET = re.compile(r"pass|secret|token|bearer|private|credential|(^|_)key(_data)?$", re.IGNORECASE)
_TYPES = {
    "string_type": ("is not text", "put the value in quotes"),
    "bool_type": ("is not true or false", "write true or false"),
    "int_type": ("is not a whole number", "write a number without quotes, such as 16"),
    "int_from_float": ("is not a whole number", "write a number without quotes, such as 16"),
    "list_type": ("is not a list", "write [one, two], or one item per line after a dash"),
    "dict_type": ("is not a map", "write {name: value}"),
    "model_type": ("is not a map", "write {name: value}"),
    "too_short": ("is empty", "write at least one item"),
    "string_too_short": ("is empty", "write a value, or leave the key out"),
}


def word(error: Any) -> tuple[KeyPath, str, str]:
    """Key, what is wrong, what to write: for one entry of `ValidationError.errors()`."""
    path = tuple(part for part in error["loc"] if part != "[key]")
    context = error.get("ctx", {})
    kind = error["type"]
    match kind:
        case "mistake":
            return path, context["what"], context["fix"]
        case "extra_forbidden":
            return path, *_unknown_key(path)
        case "missing":
            return path, "is missing", f"write {path[-1]}: {flow(_example(path))}"
        case "literal_error":
            allowed = re.findall(r"'([^']*)'|\b(\d+)\b", context["expected"])
            return path, *_choice(error["input"], ["".join(pair) for pair in allowed])
        case "greater_than_equal" | "less_than_equal":
            bound = "at least" if kind.startswith("greater") else "at most"
            return path, "is out of range", f"write {bound} {context.get('ge', context.get('le'))}"
    what, fix = _TYPES.get(kind, (str(error["msg"]), ""))
    if error["input"] is None:
        what = "is empty"
    field = field_at(path)
    if field is None:
        return path, what, fix
    if kind == "model_type":
        key = "-" if isinstance(path[-1], int) else f"{path[-1]}:"
        fix = f"write {key} {flow(_example_of(field))}"
    if kind == "string_type" and type_of(field) == "duration":
        fix = "write a number and a unit, such as 90s, 10m or 1h30m"
    return path, what, fix


def near(name: str, known: Iterable[str]) -> str:
    """`did you mean main?`, or the names that there are."""
    names = sorted(known)
    if close := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {close[0]}?"
    return f"known are {', '.join(names)}" if names else "none is defined"


def flow(value: Any) -> str:
    """A value as one writes it on one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9/.][-A-Za-z0-9_./:@]*", value):
        return value
    return json.dumps(value, ensure_ascii=False)


def field_at(path: Collection[str | int]) -> FieldInfo | None:
    """The field of the schema that a key path leads to; None where there is none."""
    model: type[Section] | None = AgentFile
    field: FieldInfo | None = None
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if model else None
        model = model_of(field.annotation) if field else None
    return field


def model_of(annotation: Any) -> type[Section] | None:
    """The model inside `Model`, `list[Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    if get_origin(annotation) in {list, Union, types.UnionType}:
        return next((model for inner in get_args(annotation) if (model := model_of(inner))), None)
    return None


def type_of(field: FieldInfo) -> str:
    """The name of a checked type, such as `duration`; empty for others."""
    extra = field.json_schema_extra
    return str(extra.get("x-type", "")) if isinstance(extra, dict) else ""


def _unknown_key(path: KeyPath) -> tuple[str, str]:
    name = str(path[-1])
    field = field_at(path[:-1])
    model = (model_of(field.annotation) if field else None) or AgentFile
    if name in model.later:
        return "is not supported yet", "remove it"
    if close := difflib.get_close_matches(name, model.model_fields, n=1, cutoff=0.8):
        return "is unknown", f"did you mean {close[0]}?"
    if _SECRET.search(name):
        files = [key for key in model.model_fields if key.endswith("_file")]
        files = [key for key in files if name in key] or files
        return (
            "is unknown, and secrets never stand in this file",
            f"name a file that holds it: {' or '.join(files)}" if (files) else "name a file that holds it",
        )
    return "is unknown", near(name, model.model_fields)


def _choice(value: Any, allowed: list[str]) -> tuple[str, str]:
    choices = ", ".join(allowed[:-1]) + f" or {allowed[-1]}" if len(allowed) > 1 else allowed[0]
    if isinstance(value, str) and (close := difflib.get_close_matches(value, allowed, n=1)):
        return f"{value!r} is none of its values", f"did you mean {close[0]}? Allowed are {choices}"
    return "is none of its values", f"write {choices}"


def _example(path: KeyPath) -> Any:
    field = field_at(path)
    return _example_of(field) if field else "…"


def _example_of(field: FieldInfo) -> Any:
    if field.examples:
        return field.examples[0]
    model = model_of(field.annotation)
    return example_of_model(model) if model else "…"


def example_of_model(model: type[Section]) -> dict[str, Any]:
    """The keys that must be there, with their examples."""
    return model.example or {
        name: _example_of(field) for name, field in model.model_fields.items() if field.is_required()
    }

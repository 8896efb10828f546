"""The reference page of the agent file, printed from the schema: `python -m gitsyncd.edges.config.reference > PAGE`.

The page in `docs/reference/agent-file.md` is this output, and a test says so.
"""

import sys
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from gitsyncd.edges.config.schema import AgentFile
from gitsyncd.edges.config.section import Section
from gitsyncd.edges.config.wording import example_of_model, flow, model_of, type_of

_HEAD = f"""# The agent file

This page is printed from the code that reads the file.

{AgentFile.__doc__}
Without `--config` it is `$GITSYNCD_CONFIG`, else `/etc/gitsyncd/gitsyncd.yaml`.
`gitsyncd check` reads it, opens the files that it names and reaches nothing; every mistake is told at once, as
`FILE:LINE: KEY: what is wrong; what to write instead`.
`gitsyncd schema` prints a JSON Schema for editors.

- Durations are written like `90s`, `10m` or `1h30m`.
- Relative file names start at the folder of the agent file.
  `{{credentials}}` in a file name stands for `$CREDENTIALS_DIRECTORY`, which systemd sets.
  Files that are named must be there and readable.
- Secrets never stand in the file; they are named by file, and read again when they change.
- The YAML is version 1.2: `yes`, `no` and `on` are text. Anchors and `<<` work; tags and doubled keys are mistakes.
- Names of sources, clusters and targets are DNS labels, unique in their list.
"""
_SCALARS = {str: "text", bool: "true or false", int: "number"}


def page() -> str:
    """The whole page, in Markdown, with one table per section."""
    parts = [_HEAD, *(_section(name, model) for name, model in _sections(AgentFile, ""))]
    return "\n".join(parts)


def _sections(model: type[Section], prefix: str) -> Iterator[tuple[str, type[Section]]]:
    """Every map of the file with its place, in the order of the file."""
    yield prefix, model
    for name, field in model.model_fields.items():
        if inner := model_of(field.annotation):
            suffix = "[]" if get_origin(field.annotation) is list else ""
            yield from _sections(inner, f"{prefix}.{name}{suffix}" if prefix else f"{name}{suffix}")


def _section(name: str, model: type[Section]) -> str:
    rows = [
        f"| `{key}` | {_type(field)} | {_default(field)} | {_meaning(field)} |"
        for key, field in model.model_fields.items()
    ]
    lines = [f"## `{name}`" if name else "## Top level", ""]
    if name:
        lines += [str(model.__doc__).strip(), ""]
    lines += ["| Key | Type | Default | Meaning |", "|---|---|---|---|", *rows, ""]
    if required := example_of_model(model):
        lines += [f"The least: `{flow(required)}`", ""]
    return "\n".join(lines)


def _type(field: FieldInfo) -> str:
    return type_of(field) or _type_name(field.annotation)


def _type_name(annotation: Any) -> str:
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return "list" if model_of(annotation) else f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return "map of text"
    if origin in {Union, types.UnionType}:
        return next(_type_name(one) for one in arguments if one is not types.NoneType)
    checked = [one for one in getattr(annotation, "__metadata__", ()) if isinstance(one, FieldInfo)]
    return type_of(checked[0]) if checked else "map"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, Section):
        return "see below"
    return "none" if field.default in (None, "", [], {}) else f"`{flow(field.default)}`"


def _meaning(field: FieldInfo) -> str:
    example = f" Example: `{flow(field.examples[0])}`." if field.examples and not field.is_required() else ""
    return f"{field.description}{example}"


if __name__ == "__main__":
    sys.stdout.write(page())

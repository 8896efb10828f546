"""The child that reads manifests: files in by standard input, objects out by standard output.

In, for each file: four bytes of length, the content. Out, lines of JSON: `["file", INDEX]` before a file is touched,
so that the parent knows where a child died; then for each object `["object", LINE, APIVERSION, KIND, NAMESPACE,
NAME]` and its body on the next line, or `["error", LINE, MESSAGE, HINT]`; at last `["end"]`. A file with an error
does not stop those after it.
"""

from __future__ import annotations

import gc
import sys
from typing import BinaryIO

import orjson

from gitsyncd.edges.child.launch import forbid_new_descriptors
from gitsyncd.edges.yaml.loader import YamlError
from gitsyncd.edges.yaml.manifests import Reader


def main(_args: list[str]) -> None:
    """Serve standard input until it ends."""
    forbid_new_descriptors()
    # Values live for one file only and hold no cycles.
    gc.disable()
    serve(sys.stdin.buffer, sys.stdout.buffer)


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Read every framed file of `source` and answer on `sink`."""
    reader = Reader()
    index = 0
    while header := source.read(4):
        content = source.read(int.from_bytes(header, "big"))
        sink.write(orjson.dumps(["file", index]) + b"\n")
        sink.flush()
        sink.write(_answer(reader, content))
        index += 1
    sink.write(b'["end"]\n')
    sink.flush()


def _answer(reader: Reader, content: bytes) -> bytes:
    try:
        found = reader.read(content)
    except YamlError as error:
        return orjson.dumps(["error", error.line, error.message, error.hint]) + b"\n"
    lines: list[bytes] = []
    for one in found:
        lines.append(orjson.dumps(["object", one.line, one.api_version, one.kind, one.namespace, one.name]))
        lines.append(one.body)
    lines.append(b"")
    return b"\n".join(lines)

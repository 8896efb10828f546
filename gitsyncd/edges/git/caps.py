"""How much of a repository is accepted. Above a cap there is a named error, never a slow death."""

from __future__ import annotations

from gitsyncd.model.immutable import immutable

MIB = 1 << 20


@immutable
class Caps:
    """Limits of one mirror. The defaults are far above what repositories of manifests need."""

    pack_bytes: int = 1 << 30
    """Of one fetch, as sent."""
    object_bytes: int = 64 * MIB
    """Of any one object of the history, inflated."""
    objects: int = 2_000_000
    """Of one fetch."""
    inflated_bytes: int = 16 << 30
    """Of all objects of one fetch together."""
    fetch_memory_bytes: int = 512 * MIB
    """Of the child that indexes a pack, on top of the files that it maps."""
    commit_bytes: int = MIB
    """Of one commit with its message."""
    tree_bytes: int = 4 * MIB
    """Of one folder that is read: some 50,000 entries."""
    packs: int = 20
    """More than this many are joined into one, so that descriptors do not run out."""
    manifest_bytes: int = 4 * MIB
    """Of one manifest file."""
    snapshot_bytes: int = 64 * MIB
    """Of all manifest files below one path."""
    files: int = 50_000
    """Entries below one path, folders included."""
    depth: int = 50
    """Folders within folders below one path."""
    read_seconds: float = 60.0
    """For finding the files below one path, and again for reading them."""


def in_words(size: int) -> str:
    """`400 MiB`, `1.5 KiB`, `12 bytes`: what a person compares with a cap."""
    if size < 1024:
        return f"{size} bytes"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024 or unit == "GiB":
            break
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"

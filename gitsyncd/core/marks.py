"""The marks by which a live object is known as ours, and the one that kubectl leaves: names only.

What they hold is written in `desired`, read in `observe`, and described in `docs/reference/marks.md`.
"""

from __future__ import annotations

from typing import Final

AGENT_LABEL: Final = "gitsyncd.dev/agent"
"""The agent's name. Watches select on it."""
TARGET_ANNOTATION: Final = "gitsyncd.dev/target"
"""The target's name, without the cluster."""
ID_ANNOTATION: Final = "gitsyncd.dev/id"
"""The object's own name in full: a copy does not describe itself."""
PATH_ANNOTATION: Final = "gitsyncd.dev/path"
"""The file in the repository."""
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
"""kubectl's: the whole object as somebody once sent it with client-side apply."""

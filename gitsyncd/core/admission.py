"""Which commit may be applied. Head and admitted commit are two things: drift heals towards the admitted one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from gitsyncd.model.source import OnRewind

REWOUND = "rewound"


@dataclass(frozen=True, slots=True)
class Admission:
    """`commit` may be applied; when `held` names a reason, the head is another one and waits."""

    commit: str
    held: str = ""


def admit(
    *, head: str, admitted: str, descends: bool, on_rewind: OnRewind = OnRewind.HOLD, approved: Collection[str] = ()
) -> Admission:
    """Whether `head` may follow `admitted`, which is empty when no commit was ever admitted.

    `descends` says whether `admitted` is reachable from `head`; `approved` are heads that a person let through.
    """
    if head == admitted or not admitted or descends or on_rewind is OnRewind.FOLLOW or head in approved:
        return Admission(commit=head)
    return Admission(commit=admitted, held=REWOUND)

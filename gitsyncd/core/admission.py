"""Which commit may be applied. Head and admitted commit are two things: drift heals towards the admitted one."""

from __future__ import annotations

from collections.abc import Collection

from gitsyncd.model.immutable import immutable
from gitsyncd.model.source import OnRewind

REWOUND = "rewound"
QUARANTINED = "quarantined"
"""The repository itself says that this commit's tree must not come back."""


@immutable(kw_only=False)
class Admission:
    """`commit` may be applied; when `held` names a reason, the head is another one and waits."""

    commit: str
    held: str = ""


def admit(
    *,
    head: str,
    admitted: str,
    descends: bool,
    on_rewind: OnRewind = OnRewind.HOLD,
    approved: Collection[str] = (),
    quarantined: bool = False,
) -> Admission:
    """Whether `head` may follow `admitted`, which is empty when no commit was ever admitted.

    `descends` says whether `admitted` is reachable from `head`; `approved` are heads that a person let through;
    `quarantined` whether the head or its tree must not come back.
    """
    if head == admitted or head in approved:
        return Admission(commit=head)
    if quarantined:
        return Admission(commit=admitted, held=QUARANTINED)
    if not admitted or descends or on_rewind is OnRewind.FOLLOW:
        return Admission(commit=head)
    return Admission(commit=admitted, held=REWOUND)

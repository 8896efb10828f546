"""The local API: what commands may ask of the running daemon by name, and who answers.

Does not belong here: how a call travels (`edges.web.local`), and what it does.
"""

from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from gitsyncd.engine.supervise import bug
from gitsyncd.model.errors import GitsyncdError
from gitsyncd.model.units import parse_period

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import timedelta

    from gitsyncd.edges.web.local import Call
    from gitsyncd.engine.control import Control

    Request = Mapping[str, Any]


def calls(control: Control, *, reload: Callable[[], Awaitable[Any]]) -> dict[str, Call]:
    """By name. `reload` reads the agent file anew."""

    def rollback(request: Request) -> Awaitable[Any]:
        return control.rollback(
            request["target"],
            request.get("to") or "",
            confirmed=bool(request.get("yes")),
            reason=request["reason"],
            by_request=bool(request.get("pull_request")),
        )

    answers: dict[str, Callable[[Request], Any]] = {
        "status": lambda request: control.status.of(request.get("targets", [])),
        "sync": lambda request: control.sync(request["targets"], wait=bool(request.get("wait"))),
        "approve-plan": lambda request: control.approve_plan(request["target"], request["plan"]),
        "approve-revision": lambda request: control.approve_revision(request["source"], request["revision"]),
        "suspend": lambda request: control.suspend(request["target"], parse_period(request["for"]), request["reason"]),
        "resume": lambda request: control.resume(request["target"]),
        "delete": lambda request: control.removal.delete(request["target"]),
        "reload": lambda _request: reload(),
        "history": lambda request: control.history(request["target"], request.get("limit")),
        "rollback": rollback,
        "images": lambda request: control.images.status(request.get("policies", [])),
        "images-lock": lambda request: control.images.lock(request["policy"], request["reason"], _period(request)),
        "images-unlock": lambda request: control.images.unlock(request["policy"]),
    }
    return {name: _foreseen(answer) for name, answer in answers.items()}


def _period(request: Request) -> timedelta | None:
    return parse_period(request["for"]) if request.get("for") else None


def _foreseen(answer: Callable[[Request], Any]) -> Call:
    """A bug met in a call is its answer: whoever asked would read that no daemon is there."""

    async def call(request: Request) -> Any:
        try:
            result = answer(request)
            return await result if isawaitable(result) else result
        except GitsyncdError:
            raise
        except Exception as error:
            raise bug(error) from error

    return call

"""How the three forges want to be asked: addresses, headers, bodies, and what of their answers counts. No I/O.

From their public documentation: docs.github.com/en/rest/pulls, docs.gitlab.com/api/merge_requests,
docs.gitea.com/api (Gitea's own OpenAPI page, which Forgejo shares).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final
from urllib.parse import quote, urlencode

from gitsyncd.model.immutable import immutable
from gitsyncd.model.update import Forge, MergeRequest

Json = Mapping[str, Any]
PAGE: Final = 50


class Unexpected(Exception):
    """The answer is not what the documentation says. The text may be shown."""


@immutable
class Ask:
    """One request, with its path below the API's address."""

    method: str
    path: str
    body: Json = field(default_factory=dict)


@immutable
class Opened:
    """A request that is open."""

    number: int
    url: str
    title: str
    body: str
    labels: frozenset[str]


class Dialect(ABC):
    """One forge's way. `project` is the repository's path, such as `team/fleet`."""

    api: str
    """Below the server's address; empty on github.com, whose API has a host of its own."""

    def __init__(self, project: str) -> None:
        self._project = project

    @abstractmethod
    def headers(self, token: str) -> Mapping[str, str]: ...

    @abstractmethod
    def find(self, head: str, base: str, page: int) -> Ask:
        """Open requests, among them the one from `head` to `base`."""

    @abstractmethod
    def found(self, item: Json, head: str, base: str) -> Opened | None:
        """None for another one, as one from a fork whose branch has that name. Anybody may open such a request.

        Raises `KeyError`, `TypeError` for what is none.
        """

    @abstractmethod
    def create(self, request: MergeRequest) -> Ask: ...

    @abstractmethod
    def change(self, number: int, request: MergeRequest) -> Ask: ...

    @abstractmethod
    def comment(self, number: int, text: str) -> Ask: ...

    @abstractmethod
    def close(self, number: int) -> Ask: ...

    def label(self, number: int, labels: Sequence[str]) -> Ask | None:
        """Add labels by their names; None where `create` and `change` have done it."""
        return Ask(method="POST", path=f"{self._issue(number)}/labels", body={"labels": list(labels)})

    def _issue(self, number: int) -> str:
        return f"/repos/{quote(self._project)}/issues/{number}"


class GitHub(Dialect):
    api = "/api/v3"

    def headers(self, token: str) -> Mapping[str, str]:
        return {
            "Authorization": f"Bearer {token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }

    def find(self, head: str, base: str, page: int) -> Ask:
        owner = self._project.partition("/")[0]
        query = {"state": "open", "head": f"{owner}:{head}", "base": base, "per_page": PAGE, "page": page}
        return Ask(method="GET", path=f"{self._pulls}?{urlencode(query)}")

    def found(self, item: Json, head: str, base: str) -> Opened | None:
        source, target = item["head"], item["base"]
        # The repository of a fork that was deleted is null.
        if (source["ref"], target["ref"]) != (head, base) or (source["repo"] or {}).get("id") != target["repo"]["id"]:
            return None
        return Opened(
            number=int(item["number"]),
            url=str(item["html_url"]),
            title=str(item["title"]),
            body=str(item.get("body") or ""),
            labels=frozenset(str(label["name"]) for label in item.get("labels") or ()),
        )

    def create(self, request: MergeRequest) -> Ask:
        return Ask(
            method="POST",
            path=self._pulls,
            body={"title": request.title, "body": request.body, "head": request.head, "base": request.base},
        )

    def change(self, number: int, request: MergeRequest) -> Ask:
        return Ask(method="PATCH", path=f"{self._pulls}/{number}", body={"title": request.title, "body": request.body})

    def comment(self, number: int, text: str) -> Ask:
        return Ask(method="POST", path=f"{self._issue(number)}/comments", body={"body": text})

    def close(self, number: int) -> Ask:
        return Ask(method="PATCH", path=f"{self._pulls}/{number}", body={"state": "closed"})

    @property
    def _pulls(self) -> str:
        return f"/repos/{quote(self._project)}/pulls"


class Gitea(GitHub):
    """Modelled on GitHub's, with a list that is not filtered by branch, and labels by number."""

    api = "/api/v1"

    def headers(self, token: str) -> Mapping[str, str]:
        return {"Authorization": f"token {token}", "Accept": "application/json"}

    def find(self, head: str, base: str, page: int) -> Ask:
        del head, base
        query = {"state": "open", "limit": PAGE, "page": page}
        return Ask(method="GET", path=f"{self._pulls}?{urlencode(query)}")

    def all_labels(self, page: int) -> Ask:
        query = {"limit": PAGE, "page": page}
        return Ask(method="GET", path=f"/repos/{quote(self._project)}/labels?{urlencode(query)}")

    def new_label(self, name: str) -> Ask:
        return Ask(method="POST", path=f"/repos/{quote(self._project)}/labels", body={"name": name, "color": "#ededed"})

    def label_numbers(self, number: int, labels: Sequence[int]) -> Ask:
        return Ask(method="POST", path=f"{self._issue(number)}/labels", body={"labels": list(labels)})


class GitLab(Dialect):
    api = "/api/v4"

    def headers(self, token: str) -> Mapping[str, str]:
        return {"PRIVATE-TOKEN": token, "Accept": "application/json"}

    def find(self, head: str, base: str, page: int) -> Ask:
        query = {"state": "opened", "source_branch": head, "target_branch": base, "per_page": PAGE, "page": page}
        return Ask(method="GET", path=f"{self._requests}?{urlencode(query)}")

    def found(self, item: Json, head: str, base: str) -> Opened | None:
        branches = (item["source_branch"], item["target_branch"])
        if branches != (head, base) or item["source_project_id"] != item["target_project_id"]:
            return None
        return Opened(
            number=int(item["iid"]),
            url=str(item["web_url"]),
            title=str(item["title"]),
            body=str(item.get("description") or ""),
            labels=frozenset(str(label) for label in item.get("labels") or ()),
        )

    def create(self, request: MergeRequest) -> Ask:
        body = {"source_branch": request.head, "target_branch": request.base, **self._texts(request)}
        return Ask(method="POST", path=self._requests, body=body)

    def change(self, number: int, request: MergeRequest) -> Ask:
        texts = self._texts(request)
        # `labels` would take away what people added.
        if labels := texts.pop("labels", ""):
            texts["add_labels"] = labels
        return Ask(method="PUT", path=f"{self._requests}/{number}", body=texts)

    def comment(self, number: int, text: str) -> Ask:
        return Ask(method="POST", path=f"{self._requests}/{number}/notes", body={"body": text})

    def close(self, number: int) -> Ask:
        return Ask(method="PUT", path=f"{self._requests}/{number}", body={"state_event": "close"})

    def label(self, number: int, labels: Sequence[str]) -> Ask | None:
        del number, labels
        return None

    @staticmethod
    def _texts(request: MergeRequest) -> dict[str, str]:
        texts = {"title": request.title, "description": request.body}
        if request.labels:
            texts["labels"] = ",".join(request.labels)
        return texts

    @property
    def _requests(self) -> str:
        return f"/projects/{quote(self._project, safe='')}/merge_requests"


DIALECTS: Final[Mapping[Forge, type[Dialect]]] = {Forge.GITHUB: GitHub, Forge.GITLAB: GitLab, Forge.GITEA: Gitea}

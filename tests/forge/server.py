"""A forge on loopback, over TLS: what GitHub, GitLab and Gitea document of their APIs for requests to merge, and no more.

Sources: docs.github.com/en/rest/pulls/pulls and /rest/issues; docs.gitlab.com/api/merge_requests and /api/notes; the
OpenAPI description that each Gitea serves (`/swagger.v1.json`).
"""

from __future__ import annotations

import json
import ssl
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Self
from urllib.parse import unquote

from aiohttp import web

from tests.gitserver.certificates import Authority

TOKEN = "f0rge-token"
PROJECT = "team/fleet"


class ForgeServer:
    """One repository `team/fleet`. `async with` starts and stops it."""

    def __init__(self, kind: str, authority: Authority) -> None:
        self.kind = kind
        self.requests: list[dict[str, Any]] = []
        """Of merges: number, source, head, base, title, body, labels, state, comments."""
        self.labels: dict[str, int] = {"other": 1}
        self.most = 50
        """Of one page, whatever is asked for: Gitea's MAX_RESPONSE_ITEMS."""
        self.asked: list[tuple[str, str]] = []
        self.tokens: set[str] = set()
        """That were sent, whatever header they came in."""
        self.fault: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(*authority.server_certificate("127.0.0.1"))
        self.port = 0

    @property
    def repository(self) -> str:
        return f"https://127.0.0.1:{self.port}/{PROJECT}.git"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        self.asked.append((request.method, path))
        self.tokens |= {request.headers[name] for name in ("Authorization", "PRIVATE-TOKEN") if name in request.headers}
        if self.fault is not None:
            return await self.fault(request)
        wanted = {"github": f"Bearer {TOKEN}", "gitea": f"token {TOKEN}"}.get(self.kind)
        sent = request.headers.get("Authorization") if wanted else request.headers.get("PRIVATE-TOKEN")
        if sent != (wanted or TOKEN):
            return web.json_response({"message": "Bad credentials"}, status=401)
        body = json.loads(await request.text() or "{}")
        if self.kind == "gitlab":
            return self._gitlab(request, path, body)
        return self._pulls(request, path, body)

    def _listed(self, request: web.Request, found: list[Any], size: str) -> web.Response:
        count, page = min(int(request.query.get(size, 30)), self.most), int(request.query.get("page", 1))
        return web.json_response(found[(page - 1) * count : page * count])

    # --- GitHub and Gitea ----------------------------------------------------------------------------------------

    def _pulls(self, request: web.Request, path: str, body: dict[str, Any]) -> web.Response:
        api = "/api/v3" if self.kind == "github" else "/api/v1"
        root = f"{api}/repos/{PROJECT}"
        size = "per_page" if self.kind == "github" else "limit"
        if path == f"{root}/pulls" and request.method == "GET":
            found = [each for each in self.requests if each["state"] == request.query["state"]]
            if self.kind == "github":
                asked = (request.query["head"], request.query["base"])
                found = [each for each in found if (f"{_owner(each)}:{each['head']}", each["base"]) == asked]
            return self._listed(request, [self._pull(each) for each in found], size)
        if path == f"{root}/pulls" and request.method == "POST":
            same = (body["head"], body["base"], "open", PROJECT)
            if any((r["head"], r["base"], r["state"], r["source"]) == same for r in self.requests):
                return web.json_response(
                    {"message": "Validation Failed", "errors": [{"message": "it exists"}]}, status=422
                )
            made = self._new(body["head"], body["base"], body["title"], body["body"])
            return web.json_response(self._pull(made), status=201)
        if path == f"{root}/labels" and self.kind == "gitea":
            if request.method == "GET":
                return self._listed(request, [{"id": n, "name": name} for name, n in self.labels.items()], size)
            self.labels[body["name"]] = len(self.labels) + 1
            return web.json_response({"id": self.labels[body["name"]], "name": body["name"]}, status=201)
        what, number, *rest = path.removeprefix(f"{root}/").split("/")
        found_one = self.requests[int(number) - 1]
        if (what, rest) == ("pulls", []) and request.method == "PATCH":
            found_one.update(body)
            return web.json_response(self._pull(found_one))
        if (what, rest) == ("issues", ["labels"]) and request.method == "POST":
            numbers = {n: name for name, n in self.labels.items()}
            names = body["labels"] if self.kind == "github" else [numbers[n] for n in body["labels"]]
            found_one["labels"] = sorted({*found_one["labels"], *names})
            return web.json_response([])
        if (what, rest) == ("issues", ["comments"]) and request.method == "POST":
            found_one["comments"].append(body["body"])
            return web.json_response({}, status=201)
        return web.json_response({"message": "Not Found"}, status=404)

    def _pull(self, found: dict[str, Any]) -> dict[str, Any]:
        return {
            "number": found["number"],
            "html_url": f"https://forge.example/{PROJECT}/pulls/{found['number']}",
            "title": found["title"],
            "body": found["body"] or None,
            "state": found["state"],
            "head": {"ref": found["head"], "repo": _repo(found["source"])},
            "base": {"ref": found["base"], "repo": _repo(PROJECT)},
            "labels": [{"name": name} for name in found["labels"]],
        }

    # --- GitLab --------------------------------------------------------------------------------------------------

    def _gitlab(self, request: web.Request, path: str, body: dict[str, Any]) -> web.Response:
        start, project, what, *rest = path.removeprefix("/api/v4/").split("/")
        if (start, unquote(project), what) != ("projects", PROJECT, "merge_requests"):
            return web.json_response({"message": "404 Project Not Found"}, status=404)
        if not rest and request.method == "GET":
            asked = (request.query["source_branch"], request.query["target_branch"])
            state = {"opened": "open"}[request.query["state"]]
            found = [r for r in self.requests if (r["head"], r["base"]) == asked and r["state"] == state]
            return self._listed(request, [self._merge(each) for each in found], "per_page")
        if not rest:
            made = self._new(body["source_branch"], body["target_branch"], body["title"], body["description"])
            made["labels"] = [label for label in body.get("labels", "").split(",") if label]
            return web.json_response(self._merge(made), status=201)
        found_one = self.requests[int(rest[0]) - 1]
        if rest[1:] == ["notes"]:
            found_one["comments"].append(body["body"])
            return web.json_response({}, status=201)
        if body.get("state_event") == "close":
            found_one["state"] = "closed"
        found_one["title"] = body.get("title", found_one["title"])
        found_one["body"] = body.get("description", found_one["body"])
        if "labels" in body:
            found_one["labels"] = body["labels"].split(",")
        found_one["labels"] = sorted(
            {*found_one["labels"], *(each for each in body.get("add_labels", "").split(",") if each)}
        )
        return web.json_response(self._merge(found_one))

    def _merge(self, found: dict[str, Any]) -> dict[str, Any]:
        return {
            "iid": found["number"],
            "web_url": f"https://forge.example/{PROJECT}/-/merge_requests/{found['number']}",
            "title": found["title"],
            "description": found["body"] or None,
            "source_branch": found["head"],
            "target_branch": found["base"],
            "source_project_id": _number(found["source"]),
            "target_project_id": _number(PROJECT),
            "labels": list(found["labels"]),
        }

    def _new(self, head: str, base: str, title: str, body: str, source: str = PROJECT) -> dict[str, Any]:
        """One that is open. `source` is the repository of its head; empty for a fork that is gone."""
        made: dict[str, Any] = {
            "number": len(self.requests) + 1,
            "source": source,
            "head": head,
            "base": base,
            "title": title,
            "body": body,
            "labels": [],
            "state": "open",
            "comments": [],
        }
        self.requests.append(made)
        return made


def _owner(found: dict[str, Any]) -> str:
    return str(found["source"]).partition("/")[0]


def _number(project: str) -> int | None:
    return zlib.crc32(project.encode()) if project else None


def _repo(project: str) -> dict[str, Any] | None:
    return {"id": _number(project), "full_name": project} if project else None

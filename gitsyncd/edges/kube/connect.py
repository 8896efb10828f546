"""From what the agent file says about a cluster to what it takes to talk to it: address, trust, credentials.

Read once at the first request, and again when a file that took part changes, or when the server no longer accepts what
was read. Nothing here talks to an API server.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from gitsyncd.edges.child.command import Limits, python_module
from gitsyncd.edges.child.process import run_child
from gitsyncd.edges.kube.files import MAX_BYTES, Stamp, content, stamps
from gitsyncd.edges.kube.plugin import Login, Plugin
from gitsyncd.model.errors import ConfigError
from gitsyncd.model.immutable import immutable
from gitsyncd.model.target import Agent, Cluster, InCluster, Kubeconfig, Server

Json = Mapping[str, Any]
Told = tuple[Stamp, bytes]
"""What a kubeconfig came to when it was this file."""

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_CHILD_LIMITS = Limits(memory_bytes=2 * 2**30, cpu_seconds=20)
_STARTED_S = 2.0
"""Within which a child has certainly started."""
_CHILD_DEADLINE = timedelta(seconds=20)


@immutable
class Access:
    """What it takes to talk to one API server. Equal values need no new connection."""

    server: str
    """`https://host:port`, or with a path in front of `/api`; no slash at the end."""
    server_name: str = ""
    """The name that the certificate must carry, when it is not the host's."""
    proxy: str = field(default="", repr=False)
    ca: str = ""
    """PEM; empty: the system's own trust."""
    cert: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    authorization: str = field(default="", repr=False)
    """The header, whole."""

    @property
    def shown(self) -> str:
        """For messages: the address."""
        return self.server

    def tls(self) -> ssl.SSLContext:
        """A context that checks the server and shows the client certificate. Raises `ConfigError` on unusable PEM."""
        try:
            context = ssl.create_default_context(cadata=self.ca or None)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError("its CA is no PEM certificate", hint="Check `ca_file` or the kubeconfig.") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.keylog_filename = None  # type: ignore[assignment] # whatever $SSLKEYLOGFILE says
        if self.cert:
            try:
                _load_cert_chain(context, self.cert, self.key)
            except (ssl.SSLError, ValueError) as error:
                raise ConfigError(
                    "its client certificate and key do not belong together, or are no PEM", hint="Check both files."
                ) from error
        return context


class AccessSource:
    """Where the facts of one cluster's connection come from, and whether they have moved since they were read."""

    def __init__(
        self,
        cluster: Cluster,
        agent: Agent | None = None,
        *,
        told: Told | None = None,
        service_account: Path = SERVICE_ACCOUNT,
    ) -> None:
        """Without an agent no plugin is listed. `told` spares one reading, if the kubeconfig is still that file."""
        self._cluster = cluster
        self._login = Login(
            agent.exec_plugins if agent else (),
            (agent.state_dir if agent else Path("/nonexistent")) / "plugins" / cluster.name,
            subject=self._subject,
        )
        self._told = told
        self._service_account = service_account
        self._stamps: Mapping[Path, Stamp] = {}
        self._seen: Mapping[Path, Stamp] = {}
        """At the last look, when they were others than those that were read."""
        self._begun: asyncio.Task[Access] | None = None

    def begin(self) -> None:
        """Start reading now, for the first `load` to take: a kubeconfig's child can work while this process imports."""
        self._begun = asyncio.get_running_loop().create_task(self._load())

    async def settled(self) -> None:
        """Until what `begin` started is over, whatever came of it and whether or not it was taken.

        Cancelled while its child starts, it would never end: asyncio then waits for an exit that it does not hear of.
        """
        if self._begun is not None:
            _, slow = await asyncio.wait([self._begun], timeout=_STARTED_S)
            for task in slow:  # its child has started, and ends with it
                task.cancel()
                await asyncio.wait([task])
            if not self._begun.cancelled():
                self._begun.exception()  # seen: nobody else will ask

    async def load(self) -> Access:
        """Read everything anew. Raises `ConfigError` that names the file."""
        begun, self._begun = self._begun, None
        return await (self._load() if begun is None else begun)

    async def _load(self) -> Access:
        connection = self._cluster.connection
        plugin: Json | None = None
        if isinstance(connection, Kubeconfig):
            self._stamps = stamps([connection.file])
        match connection:
            case Kubeconfig():
                facts, plugin = await self._from_kubeconfig(connection)
            case InCluster():
                facts = _in_cluster(self._service_account)
            case _:
                facts = _from_server(connection)
        files = [Path(facts[key]) for key in ("ca_file", "cert_file", "key_file", "token_file") if key in facts]
        if isinstance(connection, Kubeconfig):
            files.append(connection.file)
        # Stamped before they are read: a change in between shows at the next look. And also when they cannot be used:
        # a half-written file is looked at again when it is written on, not every second.
        self._stamps = stamps(files)
        if plugin is not None and isinstance(connection, Kubeconfig):
            facts = {**facts, **await self._logged_in(facts, plugin, connection.file.absolute().parent)}
        return self._access(facts)

    async def _logged_in(self, facts: Mapping[str, str], said: Json, folder: Path) -> dict[str, str]:
        """What the plugin gives, as the facts of a kubeconfig have it."""
        told = {
            "server": facts["server"],
            "tls-server-name": facts.get("server_name", ""),
            "proxy-url": facts.get("proxy", ""),
            "certificate-authority-data": base64.b64encode(self._content(facts, "ca").encode()).decode(),
            "config": said["config"],
        }
        plugin = Plugin(
            command=said["command"],
            api_version=said["api_version"],
            args=tuple(said["args"]),
            env=said["env"],
            cluster={key: value for key, value in told.items() if value} if said["told"] else None,
        )
        given = await self._login.credential(plugin, folder)
        found = {"token": given.token, "cert_data": given.cert, "key_data": given.key}
        return {key: value for key, value in found.items() if value}

    def changed(self) -> bool:
        """Whether a file that took part is another one than when it was read, or a plugin has given a new credential.

        A few `stat` calls. A file that was another one at the last look is still being written: half a token may pass
        for a whole one, and a new certificate may be there before its key. While the old credential is good, the plugin
        is asked for the next one in the background.
        """
        now = stamps(self._stamps)
        if now != self._stamps:
            calm, self._seen = now == self._seen, now
            return calm
        if self._begun is None and self._login.due:
            if self._login.expired:
                return True
            self.begin()
        return self._begun is not None and self._begun.done()

    def rejected(self) -> None:
        """The server does not accept what was read: a plugin is to be asked again."""
        self._login.rejected()

    async def _from_kubeconfig(self, connection: Kubeconfig) -> tuple[Mapping[str, str], Json | None]:
        text = self._read(connection.file, "kubeconfig")
        told, self._told = self._told, None
        if told is not None and told[0] == self._stamps[connection.file]:
            answer = orjson.loads(told[1])
        else:
            answer = orjson.loads(await self._parsed(connection, text))
        if refused := answer.get("refused"):
            raise ConfigError(
                f"kubeconfig {connection.file}: {refused['message']}",
                subject=self._subject,
                hint=refused["hint"] or "Correct the file: it is read again at once. `kubectl config view` helps.",
            )
        return answer["facts"], answer["plugin"]

    async def _parsed(self, connection: Kubeconfig, text: str) -> bytes:
        child = await run_child(
            python_module("gitsyncd.edges.kube.kubeconfig", str(connection.file.absolute()), connection.context),
            limits=_CHILD_LIMITS,
            deadline=_CHILD_DEADLINE,
            max_output=2 * MAX_BYTES,
            stdin=text.encode(),
        )
        if not child.succeeded:
            raise ConfigError(f"kubeconfig {connection.file} cannot be read: {child}", subject=self._subject)
        return child.stdout

    def _access(self, facts: Mapping[str, str]) -> Access:
        server = self._address(facts["server"])
        proxy = facts.get("proxy", "")
        if proxy and urlsplit(proxy).scheme not in {"http", "https"}:
            raise ConfigError(
                "its proxy is not supported",
                subject=self._subject,
                hint="Use an http:// or https:// proxy in `proxy-url`.",
            )
        access = Access(
            server=server,
            server_name=facts.get("server_name", ""),
            proxy=proxy,
            ca=self._content(facts, "ca"),
            cert=(cert := self._content(facts, "cert")),
            # One file may hold both.
            key=self._content(facts, "key") or cert,
            authorization=self._authorization(facts),
        )
        try:
            access.tls()
        except ConfigError as error:
            raise ConfigError(error.message, subject=self._subject, hint=error.hint) from error
        return access

    def _address(self, server: str) -> str:
        parts = urlsplit(server)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
            raise ConfigError(
                "its address is not https://host[:port]",
                subject=self._subject,
                hint="API servers are spoken to over TLS only; credentials do not belong in the address.",
            )
        return server.rstrip("/")

    def _authorization(self, facts: Mapping[str, str]) -> str:
        token = facts.get("token") or self._content(facts, "token").strip()
        if not token and "token_file" in facts:
            raise ConfigError(f"token file {facts['token_file']} is empty", subject=self._subject)
        if token:
            return f"Bearer {self._printable(token)}"
        if "username" in facts:
            pair = f"{facts['username']}:{facts['password']}"
            return f"Basic {base64.b64encode(pair.encode()).decode()}"
        return ""

    def _printable(self, token: str) -> str:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigError("its token holds characters that no token has", subject=self._subject)
        return token

    def _content(self, facts: Mapping[str, str], name: str) -> str:
        if data := facts.get(f"{name}_data"):
            return data
        file = facts.get(f"{name}_file")
        return self._read(Path(file), _FILE_WORDS[name]) if file else ""

    def _read(self, file: Path, what: str) -> str:
        return content(file, what, subject=self._subject)

    @property
    def _subject(self) -> str:
        return f"cluster {self._cluster.name}"


_FILE_WORDS = {"ca": "CA file", "cert": "client certificate", "key": "client key", "token": "token file"}


def _from_server(connection: Server) -> Mapping[str, str]:
    named = {
        "ca_file": connection.ca_file,
        "token_file": connection.token_file,
        "cert_file": connection.client_cert_file,
        "key_file": connection.client_key_file,
    }
    return {"server": connection.url} | {key: str(file) for key, file in named.items() if file}


def _in_cluster(folder: Path) -> Mapping[str, str]:
    """As every in-cluster client does it: two variables that the kubelet sets, two files that it keeps fresh."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise ConfigError(
            "`in_cluster` needs KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT",
            hint="It works inside a pod only; elsewhere use `kubeconfig` or `server`.",
        )
    address = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return {"server": address, "ca_file": str(folder / "ca.crt"), "token_file": str(folder / "token")}


def _load_cert_chain(context: ssl.SSLContext, cert: str, key: str) -> None:
    """OpenSSL reads files only, and a private key must not touch a disk: so a file that exists in memory alone."""
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as stream:
            stream.write(cert.encode() + b"\n" + (key.encode() if key != cert else b""))
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)

"""Inside a short-lived child: one kubeconfig file to the facts of one connection, as JSON on standard output.

The `kubernetes` package knows the format. Its reader is imported without the thousand models and the OAuth clients that
come with it (0.05 s in place of a quarter of a second), in a child that is gone before the first request. Nothing that
the file names is run here: what it says of an exec plugin is handed back (`plugin` decides). Auth providers are
refused, and so is everything that would give the agent other rights, or less safety, than the file asks for.

What is given back are contents where the file holds contents (`…-data`, `token`) and absolute names where it names
files, so that those can be read again when they change.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import importlib.util
import io
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import orjson

# What the reader's module imports and the reader itself never touches, by module: names that must exist in it.
_NOT_NEEDED = {
    "kubernetes": (),
    "kubernetes.client": ("ApiClient", "Configuration"),
    "oauthlib": (),
    "oauthlib.oauth2": (),
    "requests_oauthlib": ("OAuth2Session",),
    "urllib3": (),
}


def _reader() -> tuple[Any, Any, type[Exception]]:
    """`KubeConfigMerger`, `ConfigNode` and `ConfigException` of the `kubernetes` package. Leaves nothing imported."""
    before = dict(sys.modules)
    found = importlib.util.find_spec("kubernetes")
    for name, members in _NOT_NEEDED.items():
        module = sys.modules[name] = types.ModuleType(name)
        for member in members:
            setattr(module, member, object)
    sys.modules["kubernetes"].__path__ = list(found.submodule_search_locations or ()) if found else []
    vars(sys.modules["oauthlib"])["oauth2"] = sys.modules["oauthlib.oauth2"]
    try:
        config = importlib.import_module("kubernetes.config.kube_config")
        errors = importlib.import_module("kubernetes.config.config_exception")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in _NOT_NEEDED]:
            del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name.partition(".")[0] in _NOT_NEEDED})
    return config.KubeConfigMerger, config.ConfigNode, errors.ConfigException


KubeConfigMerger, ConfigNode, ConfigException = _reader()

_REFUSED_USER_KEYS = {
    "auth-provider": "uses an `auth-provider`",
    "as": "impersonates another user (`as`)",
    "as-groups": "impersonates groups (`as-groups`)",
    "as-uid": "impersonates a UID (`as-uid`)",
}
_OTHER_CREDENTIALS = (
    "Make a service account for the agent and use its token (`tokenFile`, or `server`, `ca_file` and `token_file` in "
    "the agent file), or a client certificate."
)


_PLUGIN_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class Refused(Exception):
    """The file cannot be used. Neither part of it quotes the file's values."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def main(args: list[str]) -> None:
    """`args` is the file's name and the context, which may be empty; its text comes on standard input."""
    file, context = args
    sys.stdout.buffer.write(answer(sys.stdin.read(), Path(file), context))


def answer(text: str, file: Path, context: str) -> bytes:
    """JSON: `facts` and `plugin` as of `Connection`, or `refused` with `message` and `hint`."""
    try:
        found = connection(text, file, context)
    except Refused as refused:
        return orjson.dumps({"refused": {"message": str(refused), "hint": refused.hint}})
    return orjson.dumps({"facts": found.facts, "plugin": found.plugin})


class Connection(NamedTuple):
    """What one context of the file comes to."""

    facts: dict[str, str]
    """Keys: `server`, and where given `ca_data`, `ca_file`, `cert_data`, `cert_file`, `key_data`, `key_file`, `token`,
    `token_file`, `username`, `password`, `server_name`, `proxy`."""
    plugin: dict[str, Any] | None
    """Keys: `command`, `api_version`, `args`, `env`, `told` (whether it is told of the cluster), `config` (for it)."""


def connection(text: str, file: Path, context: str) -> Connection:
    """Raises `Refused`."""
    config = _config(text)
    chosen = _context(config, context)
    cluster = _named(config, "clusters", _word(chosen, "cluster", "its context"), "cluster")
    user_name = chosen.get("user")
    user = _named(config, "users", str(user_name), "user") if user_name else {}
    found = _cluster_facts(cluster, file)
    if user.get("exec"):
        _refuse(user)
        return Connection(found, _plugin(user["exec"], cluster))
    return Connection(found | _user_facts(user, file), None)


def _config(text: str) -> Any:
    try:
        config = KubeConfigMerger(io.StringIO(text)).config
    except ConfigException:
        raise Refused("it is empty") from None
    except Exception as error:  # noqa: BLE001 - yaml's classes, without importing yaml here; their text quotes the file
        mark = getattr(error, "problem_mark", None)
        raise Refused("it is no YAML" + (f" (line {mark.line + 1})" if mark else "")) from None
    if not isinstance(config, dict):
        raise Refused("it is no kubeconfig")
    return ConfigNode("kubeconfig", config)


def _context(config: Any, name: str) -> dict[str, Any]:
    chosen = name or config.value.get("current-context")
    if not chosen:
        raise Refused("it has no current context", f"Name one by `context`: {_names(config, 'contexts')}.")
    return _named(config, "contexts", str(chosen), "context")


def _named(config: Any, table: str, name: str, part: str) -> dict[str, Any]:
    try:
        value = config[table].get_with_name(name)[part].value
    except (ConfigException, TypeError, AttributeError):
        raise Refused(f"it has no {part} {name!r}", f"It has: {_names(config, table)}.") from None
    if not isinstance(value, dict):
        raise Refused(f"its {part} {name!r} is no mapping")
    return value


def _names(config: Any, table: str) -> str:
    rows = config.value.get(table)
    names = (
        [str(row["name"]) for row in rows if isinstance(row, dict) and "name" in row] if isinstance(rows, list) else []
    )
    return ", ".join(names) or "none"


def _cluster_facts(cluster: dict[str, Any], file: Path) -> dict[str, str]:
    found = {"server": _word(cluster, "server", "its cluster")}
    if cluster.get("insecure-skip-tls-verify"):
        raise Refused(
            "it turns off the check of the server's certificate (`insecure-skip-tls-verify`)",
            "Give the server's CA by `certificate-authority` or `certificate-authority-data` instead.",
        )
    for key, name in (("tls-server-name", "server_name"), ("proxy-url", "proxy")):
        if cluster.get(key):
            found[name] = _word(cluster, key, "its cluster")
    return found | _file_or_data(cluster, "certificate-authority", "ca", file)


def _refuse(user: dict[str, Any]) -> None:
    for key, what in _REFUSED_USER_KEYS.items():
        if user.get(key):
            raise Refused(f"its user {what}, which is not supported", _OTHER_CREDENTIALS)


def _plugin(section: Any, cluster: dict[str, Any]) -> dict[str, Any]:
    """What `exec` says, every type of it checked."""
    if not isinstance(section, dict):
        raise Refused("its `exec` is no mapping")
    version = _word(section, "apiVersion", "its `exec`")
    if version not in _PLUGIN_VERSIONS:
        raise Refused("its `exec` has an `apiVersion` that is not supported", f"Use {_PLUGIN_VERSIONS[0]}.")
    mode = section.get("interactiveMode") or ("IfAvailable" if version == _PLUGIN_VERSIONS[1] else "")
    if mode not in {"Never", "IfAvailable"}:
        raise Refused(
            "its `exec` needs a person at a terminal, or does not say whether it does (`interactiveMode`)",
            "Use a plugin that asks nobody, and write `interactiveMode: Never`.",
        )
    args, env = section.get("args") or [], section.get("env") or []
    if not isinstance(args, list) or not all(_is_argument(word) for word in args):
        raise Refused("`args` of its `exec` is no list of words")
    if not isinstance(env, list) or not all(_is_variable(row) for row in env):
        raise Refused("`env` of its `exec` is no list of names and values")
    return {
        "command": _word(section, "command", "its `exec`"),
        "api_version": version,
        "args": args,
        "env": {row["name"]: row["value"] for row in env},
        "told": section.get("provideClusterInfo") is True,
        "config": _plugin_config(cluster),
    }


def _is_argument(word: object) -> bool:
    return isinstance(word, str) and "\0" not in word


def _is_variable(row: object) -> bool:
    if not isinstance(row, dict):
        return False
    name, value = row.get("name"), row.get("value")
    return _is_argument(value) and isinstance(name, str) and bool(name) and not set(name) & {"=", "\0"}


def _plugin_config(cluster: dict[str, Any]) -> Any:
    """What the file says to plugins about this cluster."""
    rows = cluster.get("extensions")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and row.get("name") == "client.authentication.k8s.io/exec":
            return row.get("extension")
    return None


def _user_facts(user: dict[str, Any], file: Path) -> dict[str, str]:
    _refuse(user)
    found = _file_or_data(user, "client-certificate", "cert", file) | _file_or_data(user, "client-key", "key", file)
    # A token in the file wins over one in a file that it names, as in the `kubernetes` package.
    if user.get("token"):
        found["token"] = _word(user, "token", "its user")
    elif user.get("tokenFile"):
        found["token_file"] = str(file.parent / _word(user, "tokenFile", "its user"))
    elif user.get("username") and user.get("password"):
        found["username"] = _word(user, "username", "its user")
        found["password"] = _word(user, "password", "its user")
    return found


def _file_or_data(section: dict[str, Any], key: str, name: str, file: Path) -> dict[str, str]:
    if section.get(f"{key}-data"):
        try:
            packed = "".join(_word(section, f"{key}-data", "it").split())
            return {f"{name}_data": base64.b64decode(packed, validate=True).decode("ascii")}
        except (binascii.Error, UnicodeDecodeError):
            raise Refused(f"its `{key}-data` is not base64 of PEM") from None
    if section.get(key):
        return {f"{name}_file": str(file.parent / _word(section, key, "it"))}
    return {}


def _word(section: dict[str, Any], key: str, owner: str) -> str:
    value = section.get(key)
    if not isinstance(value, str) or not value:
        raise Refused(f"{owner} has no usable `{key}`")
    return value.strip()

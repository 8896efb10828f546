"""What a single value of the agent file may be: names, durations, addresses, branches, paths with placeholders.

Each check takes text and gives it back, or raises with what is wrong and what to write. None knows other values.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from gitsyncd.core.images import compiled
from gitsyncd.core.reference import image_name, is_tag
from gitsyncd.core.semver import parse_range
from gitsyncd.edges.schedule import cron_moment, zone
from gitsyncd.model.address import SshAddress, is_ssh
from gitsyncd.model.units import LONGEST_PERIOD, parse_duration

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(h|ms|m|s))+$"
LONGEST_AGENT_NAME = 40
LAST_PORT = 65535
SHORTEST_DURATION = timedelta(milliseconds=100)
_LONGEST_QUOTE = 60

# What git check-ref-format refuses in a branch, as far as it can be told without the rest of the name.
_NOT_IN_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|^[-/.]|[/.]$|^@$")


def wrong(what: str, fix: str) -> PydanticCustomError:
    """The one way in which a check says no."""
    return PydanticCustomError("mistake", "{what}", {"what": what, "fix": fix})


def quoted(text: str) -> str:
    """A value as a message shows it: never long, never over several lines."""
    return repr(text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…")


def _dns_label(text: str) -> str:
    if not DNS_LABEL.fullmatch(text):
        raise wrong(
            f"{quoted(text)} is no DNS label",
            "write at most 63 of a-z, 0-9 and -, beginning and ending with one of a-z, 0-9",
        )
    return text


def _agent_name(text: str) -> str:
    if len(_dns_label(text)) > LONGEST_AGENT_NAME:
        raise wrong(f"is {len(text)} characters long", f"write at most {LONGEST_AGENT_NAME}")
    return text


def _duration(text: str) -> str:
    try:
        parsed = parse_duration(text)
    except (ValueError, OverflowError):
        raise wrong(f"{quoted(text)} is not a duration", "write it like 90s, 10m or 1h30m") from None
    if parsed < SHORTEST_DURATION or parsed > LONGEST_PERIOD:
        raise wrong(f"{quoted(text)} is out of range", "write at least 100ms and at most a year")
    return text


def is_branch(text: str) -> bool:
    """Whether Git accepts it as the name of a branch."""
    return bool(text) and not _NOT_IN_BRANCH.search(text)


def _branch(text: str) -> str:
    if text.startswith("refs/"):
        raise wrong(f"{quoted(text)} is a full ref", "write the branch alone, such as main")
    if not is_branch(text):
        raise wrong(f"{quoted(text)} is no name of a branch", "write it as `git branch` shows it, such as main")
    if "{" in text:
        raise wrong("has a placeholder, which only the ref of a target may have", "write a branch, such as main")
    return text


def _branch_pattern(text: str) -> str:
    _branch(PLACEHOLDER.sub("x", _placeholders(text)))
    return text


def _placeholders(text: str) -> str:
    for name in PLACEHOLDER.findall(text):
        label = name.removeprefix("labels.")
        if name != "cluster" and (label == name or not LABEL_KEY.fullmatch(label)):
            raise wrong(f"{quoted('{' + name + '}')} is no placeholder", "write {cluster} or {labels.NAME}")
    if re.search("[{}]", PLACEHOLDER.sub("", text)):
        raise wrong("has a brace without its other half", "write {cluster} or {labels.NAME}")
    return text


def _path(text: str) -> str:
    _placeholders(text)
    if text.startswith("/") or "\\" in text or "\x00" in text:
        raise wrong(
            f"{quoted(text)} is no path inside a repository", "write it from the root with /, such as clusters/eu-1"
        )
    if ".." in text.split("/"):
        raise wrong(f"{quoted(text)} leaves its folder", "write the path from the root of the repository, without ..")
    return text


def _file(text: str) -> str:
    # A password may stand here by mistake, so the value is not quoted.
    if not text or "\x00" in text or text.startswith("~"):
        raise wrong("is no file name", "write the full name, such as /etc/gitsyncd/name; ~ is not followed")
    unknown = [name for name in PLACEHOLDER.findall(text) if name != "credentials"]
    if unknown:
        raise wrong("has a placeholder that file names do not know", "the only one is {credentials}")
    return text


def _pointer(text: str) -> str:
    if not text.startswith("/") or re.search(r"~(?![01])", text):
        raise wrong(f"{quoted(text)} is no JSON pointer", "write it like /spec/replicas, with ~1 for a / inside a key")
    return text


def _label_key(text: str) -> str:
    if not LABEL_KEY.fullmatch(text):
        raise wrong(f"{quoted(text)} is no label name", "write letters, digits, - _ and ., such as region")
    return text


def _label_value(text: str) -> str:
    if not LABEL_VALUE.fullmatch(text):
        raise wrong(f"{quoted(text)} is no label value", "write at most 63 letters, digits, - _ and .")
    return text


def _split(text: str) -> SplitResult:
    """The parts of an address. Nothing of it is quoted in messages: it may hold a password."""
    if re.search(r"[\x00-\x20\x7f]", text):
        raise wrong("holds a space or a control character", "write it like https://git.example.com/team/fleet.git")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise wrong("is no address", "write it like https://git.example.com/team/fleet.git") from None
    if parts.scheme in {"https", "http"} and "@" in parts.netloc:
        raise wrong(
            "holds a user name or a password", "take it out and name a file: auth: {username: …, password_file: …}"
        )
    return parts


def _source_url(text: str) -> str:
    parts = _split(text)
    if is_ssh(text):
        try:
            SshAddress.parse(text)
        except ValueError as error:
            raise wrong(str(error), "write ssh://git@host/path or git@host:path") from None
        return text
    match parts.scheme:
        case "https" if parts.hostname and not (parts.query or parts.fragment):
            return text
        case "https" if parts.hostname:
            raise wrong("has a ? or a # in it", "write the address that git clone takes, and credentials under auth")
        case "file" if parts.path.startswith("/") and parts.netloc in {"", "localhost"}:
            return text
        case "http":
            raise wrong("is plain http, which is not supported yet", "write https://")
        case "git+ssh" | "ssh+git":
            raise wrong("is an old way to write an address over SSH", "write ssh://")
    raise wrong(
        "is no address of a repository", "write https://host/path, ssh://git@host/path, or file:///path for local use"
    )


def _server_url(text: str) -> str:
    parts = _split(text)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
        raise wrong("is no address of an API server", "write it like https://10.0.0.1:6443")
    return text


def split_address(text: str) -> tuple[str, int] | None:
    """Host, without brackets, and port; None for what is no address to listen on."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > LAST_PORT:
        return None
    if host == "localhost":
        return host, int(port)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        version = ipaddress.ip_address(bare).version
    except ValueError:
        return None
    return (bare, int(port)) if (version == 6) == (bare is not host) else None


def _listen(text: str) -> str:
    if split_address(text) is None:
        fix = 'write "127.0.0.1:9480", or "0.0.0.0:9480" for every address of this machine'
        raise wrong(f"{quoted(text)} is no address and port", fix)
    return text


def _image(text: str) -> str:
    try:
        image_name(text)
    except ValueError as error:
        raise wrong(str(error), "write it without tag and digest, such as registry.example.com/team/front") from None
    return text


def _image_prefix(text: str) -> str:
    try:
        image_name(f"{text.rstrip('/')}/x")
    except ValueError as error:
        raise wrong(str(error), "write a host, or a host and a path, such as registry.example.com/team") from None
    return text.rstrip("/")


def _image_tag(text: str) -> str:
    if not is_tag(text):
        raise wrong(f"{quoted(text)} is no tag", "write the tag alone, such as latest")
    return text


def _semver_range(text: str) -> str:
    try:
        parse_range(text)
    except ValueError as error:
        raise wrong(str(error), 'write it like ">=1.2 <2", "~1.4" or "1.x"') from None
    return text


def _regular_expression(text: str) -> str:
    try:
        compiled(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise wrong(f"is no regular expression: {error}", "write it like ^v(?P<version>.+)$") from None
    return text


def _schedule(text: str) -> str:
    try:
        found = cron_moment(text, "UTC", datetime(2024, 1, 1, tzinfo=UTC))
    except ValueError as error:
        raise wrong(str(error), 'write it like "*/10 8-18 * * 1-5"') from None
    if found is None:
        raise wrong("never comes", "correct the day or the month")
    return text


def _time_zone(text: str) -> str:
    try:
        zone(text)
    except ValueError as error:
        raise wrong(str(error), "write it like Europe/Berlin; the machine needs the package tzdata") from None
    return text


def _proxy(text: str) -> str:
    if "@" in text:
        what = "holds a user name or a password, which a proxy cannot be given"
        raise wrong(what, "write the address alone, such as http://proxy.example.com:3128")
    parts = _split(text)
    if parts.scheme != "http" or not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise wrong("is no address of a proxy", "write it like http://proxy.example.com:3128")
    return text


def _platform(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?", text):
        raise wrong(f"{quoted(text)} is no platform", "write os/architecture, such as linux/amd64")
    return text


def _one_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise wrong("is empty or holds a control character", "write one line of text")
    return text.strip()


def _email(text: str) -> str:
    if not re.fullmatch(r"[^\s<>@]+@[^\s<>@]+", text) or not text.isprintable():
        raise wrong(f"{quoted(text)} is no address", "write it like gitsyncd@example.com")
    return text


def _folder_path(text: str) -> str:
    if PLACEHOLDER.search(text):
        raise wrong("has a placeholder, which only paths of targets may have", "write the path itself")
    return _path(text)


MESSAGE_PARTS = frozenset({"summary", "policies", "changes", "files", "agent"})


def _message(text: str) -> str:
    for name in PLACEHOLDER.findall(text):
        if name not in MESSAGE_PARTS:
            known = ", ".join(f"{{{part}}}" for part in sorted(MESSAGE_PARTS))
            raise wrong(f"{quoted('{' + name + '}')} is no placeholder", f"known are {known}")
    if not text.strip() or "\x00" in text:
        raise wrong("is empty", "write a message, such as {summary}")
    return text


def _checked(check: Callable[[str], str], description: str, **schema: Any) -> Any:
    """Metadata for `Annotated`: the check, and what the JSON Schema and the reference page say of the type."""
    return (AfterValidator(check), Field(json_schema_extra={"x-type": description, **schema}))


DnsLabel = Annotated[str, *_checked(_dns_label, "DNS label", pattern=f"^{DNS_LABEL.pattern}$")]
AgentName = Annotated[
    str, *_checked(_agent_name, "DNS label", pattern=f"^{DNS_LABEL.pattern}$", maxLength=LONGEST_AGENT_NAME)
]
Duration = Annotated[str, *_checked(_duration, "duration", pattern=DURATION_PATTERN)]
Branch = Annotated[str, *_checked(_branch, "branch")]
BranchPattern = Annotated[str, *_checked(_branch_pattern, "branch with placeholders")]
RepositoryPath = Annotated[str, *_checked(_path, "path with placeholders")]
FileName = Annotated[str, *_checked(_file, "file")]
Pointer = Annotated[str, *_checked(_pointer, "JSON pointer", pattern="^/")]
LabelKey = Annotated[str, *_checked(_label_key, "label name")]
LabelValue = Annotated[str, *_checked(_label_value, "label value")]
SourceUrl = Annotated[str, *_checked(_source_url, "address", pattern="^((https|ssh|file)://|[^/@:]+@)")]
ListenAddress = Annotated[str, *_checked(_listen, "address and port", pattern=":[0-9]{1,5}$")]
ServerUrl = Annotated[str, *_checked(_server_url, "address", pattern="^https://")]
ImageText = Annotated[str, *_checked(_image, "image")]
ImagePrefix = Annotated[str, *_checked(_image_prefix, "beginning of images")]
ImageTag = Annotated[str, *_checked(_image_tag, "tag")]
SemverRange = Annotated[str, *_checked(_semver_range, "range of versions")]
RegularExpression = Annotated[str, *_checked(_regular_expression, "regular expression")]
Schedule = Annotated[str, *_checked(_schedule, "cron schedule")]
TimeZone = Annotated[str, *_checked(_time_zone, "time zone")]
ProxyUrl = Annotated[str, *_checked(_proxy, "address", pattern="^http://")]
Platform = Annotated[str, *_checked(_platform, "platform")]
OneLine = Annotated[str, *_checked(_one_line, "text")]
Email = Annotated[str, *_checked(_email, "address")]
FolderPath = Annotated[str, *_checked(_folder_path, "path")]
CommitMessage = Annotated[str, *_checked(_message, "text with placeholders")]

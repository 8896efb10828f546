"""What the section `images` of the agent file may say: keys, types, defaults and meaning.

What it means, with names turned into references, is `images`. The other sections are in `schema`.
"""

from typing import Literal

from pydantic import Field

from gitsyncd.edges.config.section import Auth, Section, Tls
from gitsyncd.edges.config.values import (
    Branch,
    CommitMessage,
    DnsLabel,
    Duration,
    Email,
    FileName,
    FolderPath,
    ImagePrefix,
    ImageTag,
    ImageText,
    OneLine,
    PersonName,
    Platform,
    ProxyUrl,
    RegularExpression,
    Schedule,
    SemverRange,
    TimeZone,
)


class RegistryHook(Section):
    """Who may ring: `POST` to `/image-hooks` of `agent.webhook.listen`. Docker Hub and Quay sign nothing: their address
    ends with `?token=SECRET`.
    """

    kind: Literal["dockerhub", "ghcr", "harbor", "quay", "generic"] = Field(
        description="How the sender proves that it knows the secret."
    )
    secret_file: FileName = Field(
        description="A file that holds the secret and nothing else.", examples=["/etc/gitsyncd/registry-hook.secret"]
    )


class RegistryAuth(Section):
    """Who asks a registry: exactly one of a password, a token, and the file that `docker login` writes."""

    example = {"username": "robot", "password_file": "/etc/gitsyncd/registry.password"}

    username: str | None = Field(None, description="With `password_file`.", examples=["robot"])
    password_file: FileName | None = Field(
        None,
        description="A file that holds the password or token and nothing else.",
        examples=["/etc/gitsyncd/registry.password"],
    )
    bearer_file: FileName | None = Field(
        None, description="A file that holds a token that is sent as `Authorization: Bearer`, in place of a password."
    )
    docker_config_file: FileName | None = Field(
        None,
        description="A `config.json` of docker, in place of both. Helpers that it names run only if "
        "`credential_helpers` lists them.",
        examples=["/etc/gitsyncd/docker.json"],
    )


class Registry(Section):
    """How the registry of some images is reached. Registries that are not listed are asked without credentials."""

    prefix: ImagePrefix = Field(
        description="Host, or host and the beginning of the path; the longest that fits an image decides.",
        examples=["registry.example.com/team"],
    )
    auth: RegistryAuth | None = Field(None, description=RegistryAuth.__doc__)
    tls: Tls | None = Field(None, description=Tls.__doc__)
    allow_plain_http: bool = Field(False, description="Ask without TLS: what is read can be changed on the way.")
    proxy: ProxyUrl | None = Field(None, description="An HTTP proxy to go through.", examples=["http://10.0.0.9:3128"])
    webhook: RegistryHook | None = Field(None, description=" ".join(str(RegistryHook.__doc__).split()))


class Select(Section):
    """Which tag is the best one: exactly one rule."""

    example = {"semver": ">=1.2 <2"}

    semver: SemverRange | None = Field(
        None,
        description="The highest version in this range, as Masterminds/semver reads it: pre-releases only where the "
        "range names one.",
        examples=[">=1.2 <2"],
    )
    alphabetical: Literal["asc", "desc"] | None = Field(
        None, description="`asc` takes the last one by the alphabet, `desc` the first one."
    )
    numerical: Literal["asc", "desc"] | None = Field(
        None, description="`asc` takes the highest number, `desc` the lowest."
    )
    newest: Literal["created"] | None = Field(
        None,
        description="The image that was made last, by its own word. At the first look each tag is asked about.",
    )
    digest: ImageTag | None = Field(
        None, description="This one tag, which moves: what is written is its digest.", examples=["latest"]
    )


class TagFilter(Section):
    """Which tags are looked at, and what of them."""

    pattern: RegularExpression = Field(
        description="A regular expression that a tag has to match; groups are named as in Go or Python.",
        examples=["^v(?P<version>.+)$"],
    )
    extract: str = Field(
        "",
        description="What the rule looks at, with `$name` and `${name}` for groups; left out, the whole tag.",
        examples=["$version"],
    )


class Verify(Section):
    """A signature that an image must have."""

    cosign_key_file: FileName = Field(
        description="A public key (PEM), as `cosign generate-key-pair` makes it.", examples=["/etc/gitsyncd/cosign.pub"]
    )


class ImagePolicy(Section):
    """Which tag of an image is wanted."""

    name: DnsLabel = Field(
        description='What marks in files call it: `# {"$imagepolicy": "front"}`.', examples=["front"]
    )
    image: ImageText = Field(
        description="The image, without tag and digest.", examples=["registry.example.com/team/front"]
    )
    interval: Duration = Field("5m", description="How often the registry is asked.")
    schedule: Schedule | None = Field(
        None,
        description="When it is asked, in place of `interval`: minute, hour, day, month and weekday, as cron has them.",
        examples=["*/10 8-18 * * 1-5"],
    )
    time_zone: TimeZone | None = Field(
        None, description="With `schedule`: whose hours they are; left out, UTC.", examples=["Europe/Berlin"]
    )
    select: Select = Field(description=Select.__doc__, examples=[{"semver": ">=1.2 <2"}])
    filter: TagFilter | None = Field(None, description=TagFilter.__doc__)
    min_age: Duration | None = Field(
        None,
        description="How old an image must be, by its own creation time, else by when it was first seen here.",
        examples=["1h"],
    )
    allow_backwards: bool = Field(False, description="Whether a tag may be written that is worse than what is there.")
    pin_digest: Literal["never", "if-not-present", "always"] = Field(
        "never",
        description="`always` writes `tag@sha256:…` and follows a tag that moves; `if-not-present` writes it with each "
        "new tag and where it is missing.",
    )
    platforms: list[Platform] = Field(
        [], description="All of them must be in the image.", examples=[["linux/amd64", "linux/arm64"]]
    )
    verify: Verify | None = Field(None, description=Verify.__doc__)


class Author(Section):
    """In whose name commits are made."""

    name: PersonName = Field("gitsyncd", description="The name.")
    email: Email = Field("gitsyncd@localhost", description="The address.", examples=["gitsyncd@example.com"])


class Sign(Section):
    """With what commits are signed: exactly one key."""

    example = {"ssh_key_file": "/etc/gitsyncd/sign"}

    ssh_key_file: FileName | None = Field(
        None, description="A private SSH key without passphrase.", examples=["/etc/gitsyncd/sign"]
    )
    openpgp_key_file: FileName | None = Field(
        None, description="A private OpenPGP key without passphrase, as `gpg --export-secret-keys` writes it."
    )


class Push(Section):
    """Where commits go."""

    branch: Branch = Field(
        description="A branch of its own, made when it is missing and never forced. No other update of this "
        "repository may write to it.",
        examples=["image-updates"],
    )


class PullRequest(Section):
    """One rolling request to merge `push.branch`."""

    host: Literal["github", "gitlab", "gitea"] = Field(description="Whose API it is.")
    token_file: FileName = Field(
        description="A file that holds a token which may open requests and nothing else.",
        examples=["/etc/gitsyncd/pr.token"],
    )
    labels: list[OneLine] = Field([], description="Labels that the request gets.", examples=[["images"]])


class ImageUpdate(Section):
    """Where the choices of policies are written. Only marked scalars change."""

    name: DnsLabel = Field(description="What the log calls it.", examples=["fleet"])
    source: DnsLabel = Field(description="The source whose repository is written.", examples=["fleet"])
    branch: Branch | None = Field(None, description="Left out, the source's branch.", examples=["main"])
    paths: list[FolderPath] = Field(
        [], description="Files and folders that may be changed; left out, all.", examples=[["clusters/"]]
    )
    policies: list[DnsLabel] | None = Field(None, description="Left out, all of them.", examples=[["front"]])
    auth: Auth | None = Field(None, description="Who writes, as a source's `auth`; left out, the source's own.")
    author: Author = Field(Author(), description=Author.__doc__)
    message: CommitMessage = Field(
        "{summary}",
        description="The commit's message; `{summary}`, `{policies}`, `{changes}`, `{files}` and `{agent}` are filled "
        "in. Trailers follow it.",
    )
    sign: Sign | None = Field(None, description=Sign.__doc__)
    push: Push | None = Field(None, description="Left out, commits go straight to `branch`.")
    pull_request: PullRequest | None = Field(None, description=PullRequest.__doc__)
    max_commits_per_hour: int = Field(12, ge=1, le=3600, description="More wait for the next hour.")


class Images(Section):
    """From registry to commit: which tags are wanted, and where they are written."""

    registries: list[Registry] = Field([], description=Registry.__doc__)
    credential_helpers: list[FileName] = Field(
        [],
        description="Programs, by absolute name, that a docker configuration may run for credentials.",
        examples=[["/usr/bin/docker-credential-ecr-login"]],
    )
    policies: list[ImagePolicy] = Field([], description=ImagePolicy.__doc__)
    updates: list[ImageUpdate] = Field([], description=ImageUpdate.__doc__)

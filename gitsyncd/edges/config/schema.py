"""What the agent file may say: its keys, their types, defaults and meaning, in the order of the reference page.

What it means, with names turned into references, is `resolve`. A key that is reserved for a later version stands in
`later` of its model, so that it is refused as such and not as a misspelling; written with its default it is accepted.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gitsyncd.edges.config.values import (
    AgentName,
    Branch,
    BranchPattern,
    CommitMessage,
    DnsLabel,
    Duration,
    Email,
    FileName,
    FolderPath,
    ImagePrefix,
    ImageTag,
    ImageText,
    LabelKey,
    LabelValue,
    ListenAddress,
    OneLine,
    Platform,
    Pointer,
    ProxyUrl,
    RegularExpression,
    RepositoryPath,
    Schedule,
    SemverRange,
    ServerUrl,
    SourceUrl,
    TimeZone,
)

VERSION = 1


class Section(BaseModel):
    """A map of the agent file: strict types, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    later: ClassVar[Mapping[str, Sequence[Any]]] = {}
    """Keys that a later version will know, with the values that ask for what is done anyhow: those are accepted."""
    example: ClassVar[dict[str, Any] | None] = None
    """The least that is useful, where that is more than the required keys."""

    @model_validator(mode="before")
    @classmethod
    def _without_what_is_so_anyhow(cls, value: Any) -> Any:
        if not cls.later or not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if item not in cls.later.get(key, ())}


class Log(Section):
    """What is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is console on a terminal and JSON lines otherwise."
    )


class Http(Section):
    """Health, metrics and status over HTTP, for programs that look and change nothing."""

    listen: ListenAddress | None = Field(
        "127.0.0.1:9480",
        description="Address and port, an IPv6 address in brackets; `null` turns it off. Left out, a port that is "
        "taken is said in the log and the daemon runs without; written here, it does not start.",
    )


class Writers(Section):
    """Names of field managers, with `*`, on top of the built-in table: who wrote a field that Git does not name."""

    person: list[str] = Field([], description="Tools that people write with by hand.", examples=[["my-console"]])
    delivery: list[str] = Field([], description="Pipelines and other delivery tools.")
    controller: list[str] = Field([], description="Controllers, whose fields are theirs.", examples=[["my-operator"]])


class Shard(Section):
    """Several daemons of one name divide the clusters among themselves. Left out: one writes, the others stand by."""

    by: Literal["cluster"] = Field(description="What is divided: each cluster has one daemon at a time.")


class WebhookTls(Section):
    """The listener's certificate."""

    cert_file: FileName = Field(
        description="The chain (PEM), read again when it changes.", examples=["/etc/gitsyncd/hook.pem"]
    )
    key_file: FileName = Field(description="Its key, without passphrase.", examples=["/etc/gitsyncd/hook.key"])


class Webhook(Section):
    """Where forges and registries say that something was pushed. Left out: nothing listens."""

    listen: ListenAddress = Field(
        description="Address and port, an IPv6 address in brackets. Another one than that of `http`.",
        examples=["0.0.0.0:9481"],
    )
    tls: WebhookTls | None = Field(None, description="Left out: plain HTTP, as behind a proxy that ends TLS.")


class Hook(Section):
    """Who may ring: `POST` to `/hooks/NAME` of `agent.webhook.listen`. What is sent is only looked at for who it is."""

    kind: Literal["github", "gitlab", "gitea", "bitbucket", "azure", "generic"] = Field(
        description="How the sender proves that it knows the secret."
    )
    secret_file: FileName = Field(
        description="A file that holds the secret and nothing else.", examples=["/etc/gitsyncd/hook.secret"]
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


class Agent(Section):
    """The daemon itself."""

    name: AgentName = Field(
        description="Part of marks, records and the field manager; at most 40 characters. An agent with a new name is "
        "another one, which finds the objects of the old one owned by somebody else.",
        examples=["edge-eu"],
    )
    state_dir: FileName = Field(
        "/var/lib/gitsyncd", description="Mirrors, caches, last reports. All of it can be lost without harm."
    )
    cluster_namespace: DnsLabel = Field(
        "gitsyncd",
        description="Where the agent keeps its records in every cluster. Made when missing and allowed.",
    )
    socket: FileName = Field("/run/gitsyncd/agent.sock", description="The local API that the commands talk to.")
    http: Http = Field(Http(), description=Http.__doc__)
    webhook: Webhook | None = Field(None, description=Webhook.__doc__)
    log: Log = Field(Log(), description=Log.__doc__)
    exec_plugins: list[FileName] = Field(
        [],
        description="Programs, by absolute name, that a kubeconfig may run for credentials (`exec`). "
        "Each belongs to root or the agent's user, and nobody else can write to it.",
        examples=[["/usr/local/bin/kubelogin"]],
    )
    writers: Writers = Field(Writers(), description=Writers.__doc__)
    shard: Shard | None = Field(None, description=Shard.__doc__, examples=[{"by": "cluster"}])


class Ref(Section):
    """What of a repository is followed."""

    later = dict.fromkeys(("tag", "semver", "commit", "name"), ())

    branch: Branch = Field(description="The branch to follow.", examples=["main"])


class TargetRef(Section):
    """Another branch than the source's: a branch per cluster."""

    later = Ref.later

    branch: BranchPattern = Field(
        description="The branch to follow; `{cluster}` and `{labels.NAME}` are filled in.", examples=["env/{cluster}"]
    )


class Auth(Section):
    """Who asks: exactly one of a password, a token, a client certificate and, over SSH, a key. Every file is read again
    when it changes.
    """

    later = {"github_app": ()}
    example = {"username": "git", "password_file": "/etc/gitsyncd/fleet.token"}

    username: str | None = Field(
        None,
        description="With `password_file`: most servers accept any name beside a token. Over SSH, where the address "
        "names no user: `git` when left out.",
        examples=["git"],
    )
    password_file: FileName | None = Field(
        None,
        description="A file that holds the password or token and nothing else.",
        examples=["/etc/gitsyncd/fleet.token"],
    )
    bearer_file: FileName | None = Field(
        None, description="A file that holds a token that is sent as `Authorization: Bearer`, in place of a password."
    )
    client_cert_file: FileName | None = Field(
        None, description="A client certificate (PEM), in place of a password. Only for `https://`."
    )
    client_key_file: FileName | None = Field(None, description="With `client_cert_file`: its key, without passphrase.")
    ssh_key_file: FileName | None = Field(
        None,
        description="A private key (ed25519, ECDSA or RSA). Only over SSH.",
        examples=["/etc/gitsyncd/fleet.ssh"],
    )
    ssh_key_passphrase_file: FileName | None = Field(
        None, description="With `ssh_key_file`: a file that holds its passphrase, if it has one."
    )
    known_hosts_file: FileName | None = Field(
        None,
        description="With `ssh_key_file`, and required there: the keys that the server may have, as ssh has them in "
        "`known_hosts`. A server with another key is not asked.",
        examples=["/etc/gitsyncd/known_hosts"],
    )


class Tls(Section):
    """Whom to trust."""

    ca_file: FileName = Field(
        description="Certificates (PEM) that are trusted instead of the system's.", examples=["/etc/ssl/my-ca.pem"]
    )


class Source(Section):
    """A Git repository."""

    later = {
        "allow_plain_http": (False,),
        "ignore": ([],),
        "mutable_tags": (),
        "proxy": (),
        "verify": ({"mode": "none"},),
    }

    name: DnsLabel = Field(description="What targets call it.", examples=["fleet"])
    url: SourceUrl = Field(
        description="`https://`, `ssh://git@host/path` or `git@host:path`; `file://` for local use. "
        "Passwords never stand in it.",
        examples=["https://git.example.com/platform/fleet.git"],
    )
    ref: Ref = Field(description=Ref.__doc__, examples=[{"branch": "main"}])
    interval: Duration = Field("30s", description="How often the remote is asked.")
    timeout: Duration = Field("60s", description="The whole of one look at the remote, a fetch included.")
    on_rewind: Literal["hold", "follow"] = Field(
        "hold",
        description="What is done with a head that does not descend from the last admitted commit: `hold` keeps to the "
        "admitted one and says so, `follow` takes it.",
    )
    auth: Auth | None = Field(None, description=" ".join(str(Auth.__doc__).split()))
    tls: Tls | None = Field(None, description=Tls.__doc__)
    webhook: Hook | None = Field(None, description=Hook.__doc__)


class Kubeconfig(Section):
    """Connect by a kubeconfig file."""

    file: FileName = Field(description="The kubeconfig.", examples=["/etc/gitsyncd/eu-1.kubeconfig"])
    context: str = Field("", description="The context; left out, the file's current one.", examples=["eu-1"])


class Limits(Section):
    """How much is asked of the cluster at once."""

    parallel: int = Field(
        32,
        ge=1,
        le=1000,
        description="The most requests in flight; watches are not counted. How many there are is found out: 16 or so "
        "on a server that is near, more on one that is far, fewer on one that refuses.",
    )


class Cluster(Section):
    """An API server. It is reached by exactly one of `kubeconfig`, `in_cluster` and `server`."""

    example = {"name": "eu-1", "kubeconfig": {"file": "/etc/gitsyncd/eu-1.kubeconfig"}}

    name: DnsLabel = Field(description="What targets call it.", examples=["eu-1"])
    kubeconfig: Kubeconfig | None = Field(None, description=Kubeconfig.__doc__)
    in_cluster: bool = Field(False, description="Connect with the service account of the pod that the agent runs in.")
    server: ServerUrl | None = Field(None, description="Connect to this address.", examples=["https://10.0.0.1:6443"])
    ca_file: FileName | None = Field(None, description="With `server`: certificates (PEM) to trust.")
    token_file: FileName | None = Field(None, description="With `server`: a file that holds a bearer token.")
    client_cert_file: FileName | None = Field(
        None, description="With `server`: a client certificate (PEM), in place of a token."
    )
    client_key_file: FileName | None = Field(None, description="With `client_cert_file`: its key.")
    labels: dict[LabelKey, LabelValue] = Field(
        {},
        description="What targets select on and placeholders take up.",
        examples=[{"region": "eu", "ring": "canary"}],
    )
    limits: Limits = Field(Limits(), description=Limits.__doc__)


class Selection(Section):
    """Which clusters: exactly one of `names` and `match`."""

    names: list[DnsLabel] | None = Field(None, description="These clusters.", examples=[["eu-1", "us-1"]])
    match: dict[LabelKey, LabelValue] | None = Field(
        None, description="Every cluster that has all of these labels.", examples=[{"region": "eu"}]
    )


class Prune(Section):
    """Deletes of what left Git, and how many at once. More than the budget is refused until approved."""

    enabled: bool = Field(True, description="`false` leaves such objects where they are.")
    max_objects: int = Field(50, ge=0, description="A turn that deletes more objects is refused.")
    max_percent: int = Field(
        50,
        ge=0,
        le=100,
        description="A turn that deletes a larger part of the inventory is refused; five deletes are never too many.",
    )
    allow_empty: bool = Field(False, description="Whether a path without any object may delete all of them.")


class Drift(Section):
    """What is done about changes made on the cluster."""

    action: Literal["revert", "report"] = Field(
        "revert", description="What is done about fields and objects that Git names."
    )
    foreign_fields: Literal["revert-interactive", "revert-all", "report", "ignore"] = Field(
        "revert-interactive",
        description="Fields that somebody added and Git does not name: `revert-interactive` removes those of people "
        "and delivery tools and reports unknown writers, `revert-all` removes all but those of controllers.",
    )


class IgnoreFields(Section):
    """Fields that Git may name and others may own. What is left out of the selector matches everything."""

    kind: str = Field(description="The kind.", examples=["Deployment"], min_length=1)
    group: str | None = Field(None, description="The API group; empty for the core group.", examples=["apps"])
    name: str = Field("", description="The object's name.")
    namespace: str = Field("", description="The object's namespace.")
    paths: list[Pointer] = Field(
        description="JSON pointers to the fields.", examples=[["/spec/replicas"]], min_length=1
    )


class Wait(Section):
    """Health, for commands that are given `--wait`. A turn itself ends when everything is applied."""

    enabled: bool = Field(True, description="`false`: in sync is enough for `--wait`.")
    timeout: Duration = Field("5m", description="How long `--wait` waits for health.")


class Target(Section):
    """One path of one source on one or more clusters. On each it has its own inventory: `web@eu-1`, `web@us-1`."""

    later = {"apply": ("besteffort",), "depends_on": ([],), "render": ({"kind": "auto"}, {"kind": "plain"})}

    name: DnsLabel = Field(description="The first part of `name@cluster`.", examples=["web"])
    source: DnsLabel = Field(description="The name of a source.", examples=["fleet"])
    ref: TargetRef | None = Field(None, description=TargetRef.__doc__)
    path: RepositoryPath = Field(
        ".",
        description="The folder, from the root of the repository; `{cluster}` and `{labels.NAME}` are filled in.",
        examples=["clusters/{cluster}/web"],
    )
    clusters: Selection | None = Field(None, description="Which clusters; left out, every cluster.")
    namespace: DnsLabel = Field("default", description="For namespaced objects that name none.")
    interval: Duration = Field("10m", description="A full look even when nothing was heard.")
    timeout: Duration = Field("5m", description="Of one turn; what is left then is done by the next.")
    retry_interval: Duration = Field("30s", description="First retry after a failed turn; doubles up to `interval`.")
    prune: Prune = Field(Prune(), description=Prune.__doc__)
    drift: Drift = Field(Drift(), description=Drift.__doc__)
    adopt: Literal["never", "unowned", "always"] = Field(
        "unowned",
        description="Objects that exist already: `unowned` takes those that no agent and no other target owns, "
        "`always` also the others.",
    )
    ignore_fields: list[IgnoreFields] = Field([], description=IgnoreFields.__doc__)
    suspend: bool = Field(False, description="Nothing is written for this target, and its drift is not looked at.")
    wait: Wait = Field(Wait(), description=Wait.__doc__)
    was: DnsLabel | None = Field(
        None,
        description="The name that this target had before: its record is taken over, its objects are not touched.",
        examples=["frontend"],
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

    name: OneLine = Field("gitsyncd", description="The name.")
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
        description="A branch of its own, made when it is missing and never forced.", examples=["image-updates"]
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


class AgentFile(Section):
    """The agent file: one agent, the repositories that it reads, the clusters that it writes to, what goes where."""

    later = {"include": ([],)}

    version: Literal[1] = Field(description="The version of this format.", examples=[VERSION])
    agent: Agent = Field(description=Agent.__doc__, examples=[{"name": "edge-eu"}])
    sources: list[Source] = Field([], description="Git repositories.")
    clusters: list[Cluster] = Field([], description="API servers.")
    targets: list[Target] = Field([], description="What goes where.")
    images: Images | None = Field(None, description=Images.__doc__)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the agent file, for editors. Stable for one version of gitsyncd."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | AgentFile.model_json_schema()

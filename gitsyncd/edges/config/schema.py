"""What the agent file may say: its keys, their types, defaults and meaning, in the order of the reference page.

What it means, with names turned into references, is `resolve`. A key that is reserved for a later version stands in
`later` of its model, so that it is refused as such and not as a misspelling; written with its default it is accepted.
"""

from typing import Any, Literal

from pydantic import Field

from gitsyncd.edges.config.image_schema import Images
from gitsyncd.edges.config.section import Auth, Section, Tls
from gitsyncd.edges.config.values import (
    AgentName,
    Branch,
    BranchPattern,
    DnsLabel,
    Duration,
    FileName,
    LabelKey,
    LabelValue,
    ListenAddress,
    Pointer,
    RepositoryPath,
    ServerUrl,
    SourceUrl,
)

VERSION = 1


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
    timeout: Duration = Field(
        "5m", description="How long `--wait` waits for health; no longer than the target's `timeout`."
    )


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
    timeout: Duration = Field(
        "5m",
        description="Of one turn; what is left then is done by the next. With `--wait`, of waiting for health, too.",
    )
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

"""Every failure that gitsyncd foresees, as one tree sorted by who has to do something about it.

    GitsyncdError
      ConfigError             fix-config    the agent file; start refused, or the old configuration kept
      SourceError
        SourceUnreachable     wait
        SourceDenied          fix-config
        RevisionNotFound      fix-config
        RevisionNotTrusted    approve       rewritten history
        SourceTooLarge        fix-repo      a cap on what a repository may hold
        MirrorDamaged         wait          quarantined and cloned afresh at the next look
        PushRefused           fix-repo      a hook, a protected branch, no permission to write
        PushContended         wait          others were faster, again and again
        TooManyCommits        wait          an update has had its commits of this hour
      RenderError             fix-repo      not retried before the next revision
        ManifestInvalid       fix-repo      file and line
        RendererFailed        fix-repo      the child that reads manifests died or ran out of memory
        RendererTimedOut      wait
      PlanRefused             approve       a guard stopped it
      ClusterError
        ClusterUnreachable    wait
        Throttled             wait          carries the server's delay
        ClusterDenied         fix-cluster   credentials or RBAC
        ClusterReplaced       approve       another cluster answers at this address
        KindUnknown           fix-repo      no such kind on this server
        NotFound              wait          the object (or its namespace) is not there
        Rejected              fix-repo      validation or admission
          Immutable           fix-repo      a field that cannot change on a live object
        AdmissionUnavailable  fix-cluster   a webhook did not answer
        Conflict              approve       another manager owns the field
        Changed               wait          somebody else wrote in between: look again
          LeaseLost           wait          nothing is written without the cluster's lease
        StandingBy            wait          another daemon of this name writes to the cluster
        ClusterRestored       wait          an older state was put back: everything is read afresh
        Expired               wait          the server forgot this resourceVersion (410)
      ForgeError
        ForgeUnreachable      wait
        ForgeDenied           fix-config    token, certificate, or no such repository
        ForgeRefused          fix-config    the request itself
      RegistryError           wait          what a registry says cannot be used
        RegistryUnreachable   wait
        RegistryThrottled     wait          carries the server's delay
        RegistryDenied        fix-config    credentials or certificate
        ImageNotFound         fix-config    no such repository or tag
      StateError              fix-cluster   inventory unreadable, or written by another instance
      LocalError              fix-config    disk full, no permission, no such directory on the agent's machine
      UsageError              fix-config    a command line that cannot be carried out

`remedy` is the one attribute that code branches on: retry, log level, colour, exit code. Anything that is not a
`GitsyncdError` is a bug. Outside exceptions are translated at the edge where they arise and nowhere else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from gitsyncd.model.immutable import immutable
from gitsyncd.model.printable import without_surrogates


class Remedy(StrEnum):
    """Who has to do something. The values are those of the log key `remedy`."""

    WAIT = "wait"
    FIX_REPO = "fix-repo"
    FIX_CONFIG = "fix-config"
    FIX_CLUSTER = "fix-cluster"
    APPROVE = "approve"


class GitsyncdError(Exception):
    """What was attempted, on what, and what the reader can do. `message` and `hint` never hold a secret."""

    remedy: ClassVar[Remedy] = Remedy.WAIT
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, subject: str = "", hint: str = "") -> None:
        # A server's words may hold what no UTF-8 can: it must not be the log or an answer that fails of it.
        message = without_surrogates(message)
        super().__init__(message)
        self.message = message
        self.subject = without_surrogates(subject)
        """The target, source, object or `file:line` that this is about; empty when the message says it."""
        self.hint = without_surrogates(hint or self.default_hint)

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}" if self.subject else self.message


@immutable
class Mistake:
    """One thing that is wrong in the agent file, and what to write instead. Holds no secret."""

    file: str
    line: int
    """Counted from 1; 0 when no line can be named."""
    path: str
    """The key, such as `targets[0].prune.max_objects`; empty for the file as a whole."""
    what: str
    fix: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        said = f"{self.what}; {self.fix}" if self.fix else self.what
        return ": ".join(part for part in (place, self.path, said) if part)


class ConfigError(GitsyncdError):
    """The agent file, or a file that it names, cannot be used."""

    remedy = Remedy.FIX_CONFIG
    default_hint = "Correct the agent file, or the file that is named."

    def __init__(self, message: str, *, mistakes: tuple[Mistake, ...] = (), subject: str = "", hint: str = "") -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.mistakes = mistakes
        """All of them, in the order of the file; `message` holds one line for each."""


class SourceError(GitsyncdError):
    """A Git repository could not give what was asked of it."""


class SourceUnreachable(SourceError):
    """No usable answer within the time limit."""

    default_hint = "Nothing to do if the server comes back by itself; otherwise check `url` and the network."


class SourceDenied(SourceError):
    """The server refuses these credentials, or its certificate is not trusted."""

    remedy = Remedy.FIX_CONFIG
    default_hint = "Check `auth` and `tls.ca_file` of this source."


class RevisionNotFound(SourceError):
    """The ref, the path or the commit does not exist."""

    remedy = Remedy.FIX_CONFIG
    default_hint = "Check `ref` and `path`, and that it was pushed."


class RevisionNotTrusted(SourceError):
    """A head that may not be applied: it does not descend from the admitted commit."""

    remedy = Remedy.APPROVE


class SourceTooLarge(SourceError):
    """A pack, an object, a tree or a count above its cap."""

    remedy = Remedy.FIX_REPO
    default_hint = "Keep manifests in a repository of their own, and what is large elsewhere."


class MirrorDamaged(SourceError):
    """Bytes of the local mirror do not match their ids. The mirror was set aside and is cloned afresh."""

    default_hint = "Nothing to do: it is cloned afresh at the next look. If it happens again, the disk is failing."


class PushRefused(SourceError):
    """The remote does not take the commit: a hook, a protected branch, no permission to write."""

    remedy = Remedy.FIX_REPO
    default_hint = "Let the writer's user push to this branch, or give the update `push.branch` and `pull_request`."


class PushContended(SourceError):
    """Others were faster each time. Nothing was pushed."""

    default_hint = "Nothing to do: it is tried again. If it happens often, push to a branch of its own (`push.branch`)."


class TooManyCommits(SourceError):
    """An update has made as many commits within an hour as it may."""

    default_hint = (
        "Nothing to do: it is written later. See which policy moves so often, or raise `max_commits_per_hour`."
    )


class RenderError(GitsyncdError):
    """The files of a revision do not give manifests."""

    remedy = Remedy.FIX_REPO

    def __init__(self, message: str, *, file: str = "", line: int = 0, subject: str = "", hint: str = "") -> None:
        super().__init__(message, subject=subject or (f"{file}:{line}" if line else file), hint=hint)
        self.file = file
        self.line = line
        """Counted from 1; 0 when no line can be named."""


class ManifestInvalid(RenderError):
    """A file that is not what Kubernetes would accept as manifests."""

    default_hint = "Correct the file and push it; until then everything of this target stays as it is."


class RendererFailed(RenderError):
    """The child process that reads manifests died: out of memory, or killed by hostile input."""


class RendererTimedOut(RenderError):
    """The child process that reads manifests did not finish in time."""

    remedy = Remedy.WAIT


class PlanRefused(GitsyncdError):
    """A guard stopped the deletes of a plan; everything else of it was carried out."""

    remedy = Remedy.APPROVE


class ClusterError(GitsyncdError):
    """An API server did not do what was asked of it."""


class ClusterUnreachable(ClusterError):
    """No usable answer within the time limit."""

    default_hint = "Nothing to do if the cluster comes back by itself; otherwise check its address and the network."


class Throttled(ClusterError):
    """Asked to slow down (429)."""

    def __init__(
        self, message: str, *, retry_after_s: float = 1.0, one_kind: bool = False, subject: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.retry_after_s = retry_after_s
        self.one_kind = one_kind
        """True when only the kind that was asked for is not ready yet, and the server has room for everything else."""


class ClusterDenied(ClusterError):
    """Credentials or RBAC. The hint names the rule to add where the server said which one is missing."""

    remedy = Remedy.FIX_CLUSTER

    def __init__(self, message: str, *, expired: bool = False, subject: str = "", hint: str = "") -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.expired = expired
        """True for 401: the credentials themselves, as against 403, what they may do."""


class ClusterReplaced(ClusterError):
    """The UID of `kube-system` is not the one that was recorded: another cluster answers at this address."""

    remedy = Remedy.APPROVE


class KindUnknown(ClusterError):
    """No API of this server serves that kind."""

    remedy = Remedy.FIX_REPO


class NotFound(ClusterError):
    """The object, or the namespace it should live in, does not exist."""

    default_hint = "Nothing to do if it is about to be made; otherwise add it to Git."


class Rejected(ClusterError):
    """Validation or admission said no, in words that the message quotes."""

    remedy = Remedy.FIX_REPO
    default_hint = "Correct the manifest in Git: the words are those of the API server, or of an admission rule on it."

    def __init__(self, message: str, *, fields: tuple[str, ...] = (), subject: str = "", hint: str = "") -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.fields = fields
        """Paths of the fields that the server named."""


class Immutable(Rejected):
    """A field that cannot be changed on a live object."""

    default_hint = (
        "Change the name of the object, or annotate it `gitsyncd.dev/on-immutable: recreate` to delete and create it."
    )


class AdmissionUnavailable(ClusterError):
    """An admission webhook that must be asked did not answer."""

    remedy = Remedy.FIX_CLUSTER


class Conflict(ClusterError):
    """Another field manager owns the field, and this write did not force."""

    remedy = Remedy.APPROVE


class Changed(ClusterError):
    """The object is no longer the one that was decided upon (409 on uid or resourceVersion): look again."""

    default_hint = "Nothing to do: it is looked at again at once."


class LeaseLost(Changed):
    """This daemon does not hold the cluster's lease at this moment, so the request was not sent."""

    default_hint = "Nothing to do: it goes on as soon as it holds the lease, or the other daemon does it."


class StandingBy(ClusterError):
    """Another daemon of the same name holds the cluster's lease and writes to it."""

    default_hint = "Nothing to do: this daemon takes over when the other one ends or fails."


class ClusterRestored(ClusterError):
    """The store of the cluster went back to an older state, as after a restore from a backup."""

    default_hint = "Nothing to do: everything is read afresh, and what Git says is applied again."


class Expired(ClusterError):
    """The server no longer has this resourceVersion (410): list afresh."""

    default_hint = "Nothing to do: it is listed afresh."


class ForgeError(GitsyncdError):
    """A forge did not do what was asked about a pull request."""


class ForgeUnreachable(ForgeError):
    """No usable answer within the time limit, or asked to slow down."""

    default_hint = "Nothing to do if the forge comes back by itself; otherwise check the address of the repository."


class ForgeDenied(ForgeError):
    """The forge refuses this token, or does not show it the repository."""

    remedy = Remedy.FIX_CONFIG
    default_hint = "Check what is in `pull_request.token_file`, and that its user may open pull requests."


class ForgeRefused(ForgeError):
    """The forge understands and does not accept what was asked."""

    remedy = Remedy.FIX_CONFIG
    default_hint = "Check `push.branch`, `branch` and `pull_request` of the update."


class RegistryError(GitsyncdError):
    """A registry of images gave no answer that can be used."""


class RegistryUnreachable(RegistryError):
    """No usable answer within the time limit."""

    default_hint = "Nothing to do if the registry comes back by itself; otherwise check its name and the network."


class RegistryThrottled(RegistryError):
    """Asked to slow down (429)."""

    default_hint = "Nothing to do: it is asked again later. If it happens often, give the policies a longer `interval`."

    def __init__(self, message: str, *, retry_after_s: float | None = None, subject: str = "", hint: str = "") -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.retry_after_s = retry_after_s
        """The pause that the registry asked for; None when it asked for none."""


class RegistryDenied(RegistryError):
    """The registry refuses these credentials, or its certificate is not trusted."""

    remedy = Remedy.FIX_CONFIG
    default_hint = "Check `auth` and `tls.ca_file` of this registry."


class ImageNotFound(RegistryError):
    """The repository or the tag does not exist, or these credentials may not see it."""

    remedy = Remedy.FIX_CONFIG
    default_hint = "Check `image` of the policy, and whether these credentials may read it."


class StateError(GitsyncdError):
    """The inventory in the cluster cannot be read, or somebody else wrote it."""

    remedy = Remedy.FIX_CLUSTER


class LocalError(GitsyncdError):
    """The agent's own machine: disk full, no permission, no such directory."""

    remedy = Remedy.FIX_CONFIG
    default_hint = "Mend what is named on the agent's machine: space, owner, mode or path."


class UsageError(GitsyncdError):
    """A command that cannot be carried out as it was given."""

    remedy = Remedy.FIX_CONFIG

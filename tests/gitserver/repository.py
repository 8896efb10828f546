"""Repositories made with the real git, bare, without any configuration of this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

IDENTITY = {
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
}
BARE_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "GIT_CONFIG_KEY_1": "uploadpack.allowAnySHA1InWant",
    "GIT_CONFIG_VALUE_1": "false",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
}


class Repo:
    """One bare repository. Commits are made without a work tree."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._second = 1_700_000_000
        if not path.exists():
            path.mkdir(parents=True)
            self.git("init", "-q", "--bare", "-b", "main")

    @property
    def url(self) -> str:
        return f"file://{self.path}"

    def git(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            ["git", *args],
            cwd=self.path,
            input=stdin,
            capture_output=True,
            env={**BARE_ENVIRONMENT, **IDENTITY, **(env or {})},
        )
        if done.returncode:
            raise RuntimeError(f"git {' '.join(args)}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def commit(
        self,
        files: Mapping[str, str | bytes | None],
        *,
        branch: str = "main",
        message: str = "change",
        parent: str | None = "",
        links: Mapping[str, str] | None = None,
    ) -> str:
        """A commit on top of the branch: these files added or changed, None removes one. `parent=None` begins anew."""
        self._second += 60
        if parent == "":
            parent = self.head(branch)
        stream = [f"commit refs/heads/{branch}\ncommitter Test <test@example.com> {self._second} +0100\n".encode()]
        text = message.encode()
        stream.append(b"data %d\n%s\n" % (len(text), text))
        if parent:
            stream.append(f"from {parent}\n".encode())
        for name, content in files.items():
            if content is None:
                stream.append(f"D {name}\n".encode())
                continue
            data = content.encode() if isinstance(content, str) else content
            stream.append(f"M 100644 inline {name}\ndata {len(data)}\n".encode() + data + b"\n")
        for name, target in (links or {}).items():
            stream.append(f"M 120000 inline {name}\ndata {len(target.encode())}\n{target}\n".encode())
        if parent is None:
            stream.insert(0, f"reset refs/heads/{branch}\n".encode())
        self.git("fast-import", "--quiet", "--force", stdin=b"".join(stream))
        head = self.head(branch)
        assert head
        return head

    def raw_commit(self, entries: list[tuple[str, bytes, str]], *, branch: str = "main") -> str:
        """A commit whose root tree holds exactly these `(mode, name, id)`, however wrong they are."""
        body = b"".join(
            f"{mode} ".encode() + name + b"\0" + bytes.fromhex(object_id) for mode, name, object_id in entries
        )
        tree = self.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=body)
        commit = self.git("commit-tree", tree, "-m", "raw")
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def blob(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", stdin=content)

    def head(self, branch: str = "main") -> str | None:
        try:
            return self.git("rev-parse", "--verify", "-q", f"refs/heads/{branch}")
        except RuntimeError:
            return None

    def set_head(self, branch: str, commit: str) -> None:
        self.git("update-ref", f"refs/heads/{branch}", commit)

    def delete(self, branch: str) -> None:
        self.git("update-ref", "-d", f"refs/heads/{branch}")

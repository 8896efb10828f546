"""Puts together the files of the container image: an interpreter, what it loads, and gitsyncd. No other program.

`python scripts/image_root.py ROOT` writes below ROOT, which must not exist, with the interpreter that runs it, in the
places where that one is. Reads requirements/runtime.txt, and the project itself, from the folder above. The same
sources, interpreter and `SOURCE_DATE_EPOCH` give the same bytes.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
INTERPRETER = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
"""Not the one of a virtual environment."""
STDLIB = Path(sysconfig.get_path("stdlib"))
UNWANTED = (
    "__pycache__",
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "pydoc_data",
    "config-*",
    "_test*",
    "_tkinter*",
    "_curses*",
    "readline*",
    "xxlimited*",
    "_ctypes_test*",
)
"""Of the standard library."""
USER = 65532
WRITABLE = ("var/lib/gitsyncd", "run/gitsyncd")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH") or 0)


def main() -> None:
    root = Path(sys.argv[1]).resolve()
    root.mkdir()
    copy(root, INTERPRETER)
    shutil.copytree(STDLIB, root / STDLIB.relative_to("/"), ignore=shutil.ignore_patterns(*UNWANTED), symlinks=True)
    packages = root / STDLIB.relative_to("/") / "site-packages"
    install(packages)
    for library in sorted(set(libraries(programs(root)))):
        copy(root, library)
    compile_all(root, STDLIB)
    program = root / "usr/local/bin/gitsyncd"
    program.parent.mkdir(parents=True, exist_ok=True)
    # -I: nothing in the environment or the working directory changes what is imported.
    program.write_text(f"#!{INTERPRETER} -I\nimport sys\nfrom gitsyncd.__main__ import start\nsys.exit(start())\n")
    (root / "etc/ssl/certs").mkdir(parents=True)
    (root / "etc/passwd").write_text(f"gitsyncd:x:{USER}:{USER}:gitsyncd:/var/lib/gitsyncd:/nonexistent\n")
    (root / "etc/group").write_text(f"gitsyncd:x:{USER}:\n")
    if CERTIFICATES.exists():
        shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    for folder in (*WRITABLE, "tmp"):
        (root / folder).mkdir(parents=True)
    settle(root, executables={program, root / INTERPRETER.relative_to("/")})


def install(packages: Path) -> None:
    """What runs, checked by hash, and the project; built by what is installed beside this interpreter."""
    # Byte code is made at the end, by one way for all.
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-compile",
    ]
    pinned = ["--require-hashes", "--only-binary", ":all:", "-r", str(PROJECT / "requirements/runtime.txt")]
    subprocess.run([*pip, "--target", str(packages), *pinned], check=True)
    wheels = packages / "wheels"
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", wheels, PROJECT],
        check=True,
    )
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "--target", str(packages), "--no-deps", "--upgrade", str(wheel)], check=True)
    shutil.rmtree(wheels)
    shutil.rmtree(packages / "bin")  # programs of dependencies
    for file in packages.glob("*.dist-info/direct_url.json"):  # the folder that the wheel was in
        file.unlink()
        record = file.with_name("RECORD")
        lines = [line for line in record.read_text().splitlines(keepends=True) if file.name not in line]
        record.write_text("".join(lines))


def programs(root: Path) -> Iterator[Path]:
    yield INTERPRETER
    yield from sorted(path for path in root.rglob("*.so*") if path.is_file())


def libraries(files: Iterable[Path]) -> Iterator[Path]:
    """What the loader would load for these, itself included."""
    for file in files:
        told = subprocess.run(["ldd", file], capture_output=True, text=True, check=False).stdout
        if missing := re.findall(r"^\s*(\S+) => not found", told, flags=re.MULTILINE):
            raise SystemExit(f"{file} needs {', '.join(missing)}, which this machine does not have")
        for found in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", told, flags=re.MULTILINE):
            if not found.startswith(str(file.parent)) and "/site-packages/" not in found:
                yield Path(found)


def copy(root: Path, file: Path) -> None:
    """To the same place below `root`; a link becomes what it leads to."""
    there = root / file.relative_to("/")
    there.parent.mkdir(parents=True, exist_ok=True)
    if not there.exists():
        shutil.copy(file, there)


def compile_all(root: Path, folder: Path) -> None:
    """Byte code that is believed without looking at its source: the file system is read-only, and each child would
    compile again what it imports. It carries no time.
    """
    compileall.compile_dir(
        root / folder.relative_to("/"),
        quiet=2,
        stripdir=str(root),
        prependdir="/",
        maxlevels=30,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def settle(root: Path, executables: set[Path]) -> None:
    """Modes and times that do not depend on who builds this, and when."""
    writable = {root / folder for folder in WRITABLE}
    for path in sorted(root.rglob("*"), reverse=True):
        if not path.is_symlink():
            path.chmod(
                0o1777
                if path == root / "tmp"
                else 0o755
                if path.is_dir() or path in executables or ".so" in path.name
                else 0o644
            )
        if path in writable:
            path.chmod(0o750)
            if os.geteuid() == 0:
                os.chown(path, USER, USER)
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)


if __name__ == "__main__":
    main()

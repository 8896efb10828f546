"""What is shipped: the same sources give the same bytes, and nothing is forgotten or added."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from tests.service.checkout import ROOT, checkout

pytestmark = pytest.mark.slow


def build(folder: Path) -> dict[str, Path]:
    """Wheel and sdist, by suffix."""
    source = checkout(folder / "source")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)],
        check=True,
        capture_output=True,
    )
    return {file.suffix: file for file in (folder / "dist").iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("once"))


def test_wheel_and_sdist_built_twice_are_the_same_to_the_byte(built: dict[str, Path], tmp_path: Path) -> None:
    again = build(tmp_path)

    assert built.keys() == {".whl", ".gz"}
    assert digests(built) == digests(again)


def digests(files: dict[str, Path]) -> dict[str, str]:
    return {suffix: sha256(file.read_bytes()).hexdigest() for suffix, file in files.items()}


def test_the_wheel_holds_every_module_and_nothing_but_the_package(built: dict[str, Path]) -> None:
    names = zipfile.ZipFile(built[".whl"]).namelist()

    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "gitsyncd").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"gitsyncd"}


def test_the_sdist_holds_what_installing_as_a_service_takes(built: dict[str, Path]) -> None:
    with tarfile.open(built[".gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    units = {str(path.relative_to(ROOT)) for path in (ROOT / "systemd").rglob("*") if path.is_file()}
    wanted = units | {"requirements/runtime.txt", "docs/how-to/install.md", "pyproject.toml", "CHANGELOG.md", "LICENSE"}
    assert wanted <= names

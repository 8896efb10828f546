"""The systemd units: nothing that was decided about them gets lost, and systemd's own analysis finds no fault."""

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
ONE, MANY = UNITS / "gitsyncd.service", UNITS / "gitsyncd@.service"
EXAMPLES = sorted((UNITS / "examples").glob("*.conf"))
SECTION = "Service"
NEEDS_254 = {"RestartSteps", "RestartMaxDelaySec"}

analysed = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd-analyze")


def settings(file: Path) -> dict[str, list[str]]:
    """`[Service]` as key to values, in their order."""
    found = defaultdict(list)
    section = ""
    for line in file.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif section == SECTION and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return dict(found)


both = pytest.mark.parametrize("unit", [ONE, MANY], ids=lambda unit: unit.name)


@both
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),
        ("WatchdogSec", "60s"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "2"),
        ("UMask", "0077"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("PrivateUsers", "yes"),
        ("PrivateMounts", "yes"),
        ("ProtectHostname", "yes"),
        ("ProtectClock", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectKernelLogs", "yes"),
        ("ProtectControlGroups", "yes"),
        ("ProtectProc", "invisible"),
        ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
        ("RestrictNamespaces", "yes"),
        ("RestrictRealtime", "yes"),
        ("RestrictSUIDSGID", "yes"),
        ("LockPersonality", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("SystemCallArchitectures", "native"),
        ("KeyringMode", "private"),
        ("RemoveIPC", "yes"),
        ("LimitCORE", "1"),
        ("MemoryMax", "2G"),
        ("MemorySwapMax", "0"),
        ("TasksMax", "256"),
    ],
)
def test_a_unit_takes_away_what_the_daemon_never_uses(unit: Path, key: str, value: str) -> None:
    assert settings(unit)[key] == [value]


@both
def test_a_unit_leaves_the_id_of_the_boot_to_be_read(unit: Path) -> None:
    assert "ProcSubset" not in settings(unit)


@both
def test_system_calls_are_those_of_services_less_the_privileged_ones(unit: Path) -> None:
    assert settings(unit)["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]


@both
def test_whatever_waits_between_two_starts_it_never_gives_up(unit: Path) -> None:
    assert "StartLimitIntervalSec=0" in unit.read_text().splitlines()


def test_the_template_differs_from_the_unit_in_names_only() -> None:
    one, many = settings(ONE), settings(MANY)

    assert one.keys() == many.keys()
    assert {key: (one[key], many[key]) for key in one if one[key] != many[key]} == {
        "ExecStart": (
            ["/opt/gitsyncd/bin/gitsyncd run --config /etc/gitsyncd/gitsyncd.yaml"],
            ["/opt/gitsyncd/bin/gitsyncd run --config /etc/gitsyncd/%i.yaml"],
        ),
        "ExecReload": (
            ["/opt/gitsyncd/bin/gitsyncd reload --config /etc/gitsyncd/gitsyncd.yaml"],
            ["/opt/gitsyncd/bin/gitsyncd reload --config /etc/gitsyncd/%i.yaml"],
        ),
        "StateDirectory": (["gitsyncd"], ["gitsyncd-%i"]),
        "RuntimeDirectory": (["gitsyncd"], ["gitsyncd-%i"]),
    }


def test_every_example_stands_in_the_table_of_the_install_page() -> None:
    page = (ROOT / "docs/how-to/install.md").read_text()

    assert {file.name for file in EXAMPLES} == set(re.findall(r"^\| `([a-z-]+\.conf)` \|", page, flags=re.MULTILINE))


# --- systemd's own opinion -----------------------------------------------------------------------------------------


def installed(folder: Path, *drop_ins: Path, unit: str = "gitsyncd.service", source: Path = ONE) -> Path:
    """The unit in a folder with nothing else, with a program where it expects one."""
    program = folder / "gitsyncd"
    program.touch(mode=0o755)
    text = source.read_text().replace("/opt/gitsyncd/bin/gitsyncd", str(program))
    (folder / unit).write_text(text)
    (folder / f"{unit}.d").mkdir()
    for file in drop_ins:
        shutil.copy(file, folder / f"{unit}.d")
    return folder / unit


def analyse(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True)


INSTANCES = [("gitsyncd.service", ONE), ("gitsyncd@edge-eu.service", MANY)]


@analysed
@pytest.mark.parametrize(("unit", "source"), INSTANCES)
def test_a_unit_has_no_mistake(unit: str, source: Path, tmp_path: Path) -> None:
    done = analyse("verify", "--man=no", str(installed(tmp_path, unit=unit, source=source)))

    # What other units of this machine do wrong is said, too.
    assert [line for line in done.stderr.splitlines() if "gitsyncd" in line] == []


@analysed
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_has_no_mistake(file: Path, tmp_path: Path) -> None:
    many = file.name == "own-user.conf"
    unit, source = INSTANCES[many]

    done = analyse("verify", "--man=no", str(installed(tmp_path, file, unit=unit, source=source)))

    unknown = re.compile("Unknown key '(" + "|".join(NEEDS_254) + ")'")
    complaints = [line for line in done.stderr.splitlines() if "gitsyncd" in line and not unknown.search(line)]
    assert complaints == []


@analysed
@pytest.mark.parametrize(("unit", "source"), INSTANCES)
def test_a_unit_is_exposed_to_1_1_of_10(unit: str, source: Path, tmp_path: Path) -> None:
    """The threshold is in tenths; without the sandbox it is 9.2."""
    file = installed(tmp_path, unit=unit, source=source)

    done = analyse("security", "--offline=true", "--threshold=11", str(file))

    assert done.returncode == 0, done.stdout


@analysed
def test_the_analysis_would_notice_what_is_missing(tmp_path: Path) -> None:
    file = installed(tmp_path)
    file.write_text(re.sub(r"^(SystemCallFilter|Restrict\w+|Private\w+)=.*$", "", file.read_text(), flags=re.MULTILINE))

    assert analyse("security", "--offline=true", "--threshold=20", str(file)).returncode != 0

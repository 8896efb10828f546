"""What a manager hears, on real sockets."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitsyncd.edges.systemd import Notifier, report
from tests.engine.virtualtime import VirtualTimeLoop
from tests.service.manager import Manager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


def test_the_manager_hears_each_message_in_its_own_words(manager: Manager) -> None:
    notifier = Notifier(manager.address)

    notifier.watchdog()
    notifier.ready("all well")
    notifier.watchdog()
    notifier.status("less well")
    notifier.stopping()

    assert manager.heard() == [
        "EXTEND_TIMEOUT_USEC=60000000",
        "READY=1\nSTATUS=all well",
        "WATCHDOG=1",
        "STATUS=less well",
        "STOPPING=1\nSTATUS=stopping",
    ]


def test_a_reload_carries_the_time_of_the_monotonic_clock_in_microseconds_and_ends_by_ready(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    notifier.ready("all well")
    before = time.monotonic_ns() // 1000

    notifier.reloading()
    notifier.reloaded("less well")

    _, begin, end = manager.heard()
    first, _, micros = begin.partition("\nMONOTONIC_USEC=")
    assert first == "RELOADING=1"
    assert before <= int(micros) <= time.monotonic_ns() // 1000
    assert end == "READY=1\nSTATUS=less well"


def test_a_reload_during_the_start_does_not_end_the_start(manager: Manager) -> None:
    notifier = Notifier(manager.address)

    notifier.reloading()
    notifier.ready("all well")
    notifier.reloaded("less well")

    assert manager.heard() == ["READY=1\nSTATUS=all well"]


def test_a_reload_that_the_end_overtook_says_nothing_more(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    notifier.ready("all well")
    notifier.reloading()
    manager.heard()

    notifier.stopping()
    notifier.reloaded("all well")
    notifier.status("stopping")

    assert manager.heard() == ["STOPPING=1\nSTATUS=stopping"]


def test_an_abstract_socket_is_reached_too() -> None:
    manager = Manager(f"@gitsyncd-test-{os.getpid()}")

    Notifier(manager.address).ready("all well")

    assert manager.heard() == ["READY=1\nSTATUS=all well"]
    manager.close()


def test_a_status_is_told_when_it_changes_and_not_again(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    notifier.ready("one")

    for text in ("one", "two", "two", "one"):
        notifier.status(text)

    assert manager.heard() == ["READY=1\nSTATUS=one", "STATUS=two", "STATUS=one"]


def test_a_line_break_in_a_status_begins_no_assignment(manager: Manager) -> None:
    Notifier(manager.address).status("one\nMAINPID=1")

    assert manager.heard() == ["STATUS=one\N{REPLACEMENT CHARACTER}MAINPID=1"]


@pytest.mark.parametrize(
    "address", ["", "relative", "vsock:2:1", "/nowhere/at/all", "/" + "x" * 200, "/nul\0byte", "@"]
)
def test_a_manager_that_cannot_be_reached_is_no_error(address: str) -> None:
    notifier = Notifier(address)

    notifier.watchdog()
    notifier.ready("all well")
    notifier.status("less well")
    notifier.reloading()
    notifier.stopping()

    assert notifier.is_ready


def test_what_a_busy_manager_does_not_take_goes_out_later_and_in_order(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    notifier = Notifier(manager.address)
    count = 0
    while not notifier._unsent:  # its queue is full from here on
        count += 1
        notifier.status(str(count))
    notifier.ready("all well")
    manager.heard()

    notifier.watchdog()

    assert manager.heard() == [f"STATUS={count}", "READY=1\nSTATUS=all well", "WATCHDOG=1"]
    manager.close()


def test_a_manager_that_makes_a_new_socket_goes_on_hearing(tmp_path: Path) -> None:
    old = Manager(str(tmp_path / "notify"))
    notifier = Notifier(old.address)
    notifier.ready("all well")
    old.close()
    (tmp_path / "notify").unlink()
    notifier.watchdog()

    new = Manager(str(tmp_path / "notify"))
    notifier.status("less well")

    assert new.heard() == ["WATCHDOG=1", "STATUS=less well"]
    new.close()


# --- the environment ---------------------------------------------------------------------------------------------------


def test_the_variables_are_read_and_taken_out(manager: Manager) -> None:
    environ = {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/usr/bin",
    }

    notifier = Notifier.from_environment(environ)

    assert (notifier.listens, notifier.watchdog_s) == (True, 30.0)
    assert environ == {"PATH": "/usr/bin"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
    ],
)
def test_a_watchdog_that_is_not_meant_for_this_process_is_not_fed(variables: dict[str, str]) -> None:
    notifier = Notifier.from_environment(variables)

    assert notifier.watchdog_s is None
    assert not notifier.listens


def test_without_a_manager_nothing_is_waited_for() -> None:
    asyncio.run(asyncio.wait_for(report(Notifier(), alive=lambda: True, status=lambda: "all well"), 5))


# --- signs of life -----------------------------------------------------------------------------------------------------


class Daemon:
    """A notifier that is reporting, in virtual time."""

    def __init__(self, manager: Manager, *, watchdog_s: float | None) -> None:
        self.manager = manager
        self.notifier = Notifier(manager.address, watchdog_s=watchdog_s)
        self.alive = True
        self.status = "all well"

    async def heard_within(self, seconds: float) -> list[str]:
        task = asyncio.ensure_future(report(self.notifier, alive=lambda: self.alive, status=lambda: self.status))
        with self.manager.listening():
            await asyncio.sleep(seconds)
        task.cancel()
        return self.manager.heard()


def test_the_watchdog_is_fed_at_half_its_interval(manager: Manager) -> None:
    async def test() -> list[str]:
        daemon = Daemon(manager, watchdog_s=60)
        daemon.notifier.ready("all well")
        return await daemon.heard_within(299)

    assert virtual(test()) == ["READY=1\nSTATUS=all well", *["WATCHDOG=1"] * 10]


def test_a_daemon_with_a_dropped_target_is_not_said_to_be_alive(manager: Manager) -> None:
    async def test() -> list[str]:
        daemon = Daemon(manager, watchdog_s=60)
        daemon.notifier.ready("all well")
        daemon.alive = False
        return await daemon.heard_within(3600)

    assert virtual(test()) == ["READY=1\nSTATUS=all well"]


@pytest.mark.parametrize("watchdog_s", [None, 60, 3600])
def test_starting_may_take_as_long_as_it_is_alive(manager: Manager, watchdog_s: float | None) -> None:
    """Each message buys a minute: no two may be further apart."""

    async def test() -> list[str]:
        return await Daemon(manager, watchdog_s=watchdog_s).heard_within(600)

    heard = virtual(test())
    assert heard.count("EXTEND_TIMEOUT_USEC=60000000") >= 20
    assert "WATCHDOG=1" not in heard


def test_a_start_that_hangs_gets_no_more_time(manager: Manager) -> None:
    async def test() -> list[str]:
        daemon = Daemon(manager, watchdog_s=60)
        daemon.alive = False
        return await daemon.heard_within(600)

    assert virtual(test()) == ["STATUS=all well"]


def virtual(test: object) -> list[str]:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        result: list[str] = runner.run(test)  # type: ignore[arg-type]
        return result

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from copytrader import systemd
from tests.e2e.stage import Stage


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Stands for systemd."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(path))
        channel.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield channel


def heard(channel: socket.socket) -> list[str]:
    said = []
    while True:
        try:
            said.append(channel.recv(4096).decode())
        except BlockingIOError:
            return said


def test_nothing_is_said_where_nobody_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not systemd.notify("READY=1")


def test_a_socket_without_a_file_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(f"\0copytrader-test-{os.getpid()}")
        channel.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@copytrader-test-{os.getpid()}")
        assert systemd.notify("READY=1")
        assert heard(channel) == ["READY=1"]


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_a_sign_of_life_is_due_three_times_in_what_systemd_waits(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], seconds: float | None
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert systemd.watchdog_seconds() == seconds


def test_it_is_ready_when_the_copier_is_and_lives_while_the_loop_turns(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "150000")

    async def test() -> None:
        ready = asyncio.Event()
        task = asyncio.create_task(systemd.attend(ready, lambda: "following"))
        await asyncio.sleep(0.1)
        assert heard(listening) == []
        ready.set()
        await asyncio.sleep(0.25)
        said = heard(listening)
        assert said[0] == "READY=1\nSTATUS=following"
        assert 2 <= said.count("WATCHDOG=1") <= 6
        task.cancel()

    asyncio.run(test())


def test_follow_tells_systemd_that_it_is_ready_lives_and_ends(listening: socket.socket, tmp_path: Path) -> None:
    async def test() -> None:
        env = {"NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"], "WATCHDOG_USEC": "300000"}
        async with Stage(tmp_path, ("1",), env=env) as stage:
            follow = await stage.follows()
            await asyncio.sleep(0.5)
            assert await follow.stops() == 0
        said = heard(listening)
        assert said[0] == "READY=1\nSTATUS=following 1000000001 for asha"
        assert said[1:-1] == ["WATCHDOG=1"] * (len(said) - 2)
        assert len(said) > 3
        assert said[-1] == "STOPPING=1"

    asyncio.run(test())


def test_systemd_hears_who_is_halted(listening: socket.socket, tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1",), env={"NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"]}) as stage:
            halt = await stage.runs("halt")
            assert await halt.ends(60) == 0
            follow = await stage.follows()
            resume = await stage.runs("resume", "--yes")
            assert await resume.ends() == 0
            assert await follow.stops() == 0

    asyncio.run(test())
    following = "STATUS=following 1000000001 for asha"
    halted = f"{following}; halted: asha: no entry is copied there until `copytrader resume`"
    assert heard(listening) == [f"READY=1\n{halted}", following, "STOPPING=1"]

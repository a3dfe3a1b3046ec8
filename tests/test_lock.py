"""One writer per journal, one sender per follower, whatever name they come by."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import FileLock

from copytrader.failure import ExitCode
from copytrader.lock import Holder, LockError, LockHeld, hold

ASHA, RAVI = "1000000002", "1000000003"
_CONTENDER = """
import sys, time
from pathlib import Path
from copytrader.lock import LockHeld, hold
started = time.monotonic()
try:
    with hold(Path(sys.argv[1]), sys.argv[3:], Path(sys.argv[2]), "follow"):
        print("won", flush=True)
        sys.stdin.read()
except LockHeld as held:
    print(f"lost {time.monotonic() - started:.3f} {held.holder.pid}", flush=True)
    sys.exit(6)
"""


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "copytrader.db"
    path.write_bytes(b"")
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def contender(processes: ExitStack, journal: Path, state: Path, *followers: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _CONTENDER, journal, state, *followers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    processes.enter_context(process)
    processes.callback(process.kill)
    return process


def says(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def other_name(how: str, journal: Path, tmp_path: Path) -> Path:
    """Return a second name for the journal, or a second journal of the same follower."""
    other = tmp_path / "other.db"
    if how == "same path":
        return journal
    if how == "symlink":
        other.symlink_to(journal)
    elif how == "hard link":
        other.hardlink_to(journal)
    else:
        shutil.copy(journal, other)
    return other


@pytest.mark.parametrize("how", ["same path", "symlink", "hard link", "copy"])
def test_of_two_at_once_exactly_one_wins_and_the_other_knows_who(
    how: str, journal: Path, state: Path, tmp_path: Path, processes: ExitStack
) -> None:
    names = (journal, other_name(how, journal, tmp_path))
    for _ in range(5):
        pair = [contender(processes, name, state, ASHA) for name in names]
        answers = [says(process) for process in pair]
        (winner,) = [process for process, answer in zip(pair, answers, strict=True) if answer == ["won"]]
        (loser,) = [process for process in pair if process is not winner]
        (lost,) = [answer for answer in answers if answer != ["won"]]
        assert lost[0] == "lost"
        assert float(lost[1]) < 1
        assert int(lost[2]) == winner.pid
        assert loser.wait() == 6
        winner.kill()
        winner.wait()


def test_a_killed_holder_leaves_nothing_held(journal: Path, state: Path, processes: ExitStack) -> None:
    first = contender(processes, journal, state, ASHA)
    assert says(first) == ["won"]
    first.send_signal(signal.SIGKILL)
    first.wait()

    with hold(journal, [ASHA], state, "follow"):
        pass


def test_the_refusal_names_the_holder_in_one_line(journal: Path, state: Path) -> None:
    with hold(journal, [ASHA], state, "follow"), pytest.raises(LockHeld) as refused:
        hold(journal, [ASHA], state, "reconcile").__enter__()

    holder = refused.value.holder
    assert (holder.pid, holder.purpose, holder.host) == (os.getpid(), "follow", socket.gethostname())
    assert str(refused.value) == (
        f"the journal {journal} is in use by `copytrader follow`, process {os.getpid()} on {socket.gethostname()} "
        f"since {holder.since}; stop that one first"
    )
    assert refused.value.code is ExitCode.SAFETY


def test_another_journal_may_not_send_for_the_same_follower(journal: Path, state: Path, tmp_path: Path) -> None:
    with hold(journal, [ASHA, RAVI], state, "follow"), pytest.raises(LockHeld, match=f"follower {RAVI} is in use"):
        hold(tmp_path / "second.db", [RAVI], state, "follow").__enter__()


def test_who_is_refused_holds_nothing_afterwards(journal: Path, state: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.db"
    with hold(journal, [RAVI], state, "follow"):
        with pytest.raises(LockHeld):
            hold(second, [ASHA, RAVI], state, "follow").__enter__()
        with hold(second, [ASHA], state, "follow"):
            pass


def test_different_followers_do_not_hinder_each_other(journal: Path, state: Path, tmp_path: Path) -> None:
    with hold(journal, [ASHA], state, "follow"), hold(tmp_path / "second.db", [RAVI], state, "follow"):
        pass


def test_lock_files_stay_are_private_and_say_nothing_once_released(journal: Path, state: Path) -> None:
    before = os.umask(0)
    try:
        with hold(journal, [ASHA], state, "follow"):
            pass
    finally:
        os.umask(before)
    for path in (Path(f"{journal}.lock"), state / "locks" / f"{ASHA}.lock"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_bytes() == b""
    assert stat.S_IMODE((state / "locks").stat().st_mode) == 0o700


def test_the_signature_of_a_dead_process_is_not_taken_for_the_holders(journal: Path, state: Path) -> None:
    with hold(journal, [], state, "follow"):
        lock = Path(f"{journal}.lock")
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        lock.write_text(f'{{"pid": {dead.pid}, "purpose": "follow", "host": "{socket.gethostname()}", "since": "x"}}')
        started = time.monotonic()
        with pytest.raises(LockHeld, match="is in use by another process") as refused:
            hold(journal, [], state, "follow").__enter__()

    assert refused.value.holder == Holder()
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("client_id", ["", "../x", "1000000002/..", "a b", "1" * 33])
def test_a_client_id_cannot_lead_elsewhere(client_id: str, journal: Path, state: Path) -> None:
    with pytest.raises(LockError, match="is no client id"):
        hold(journal, [client_id], state, "follow").__enter__()


def test_a_symlink_in_place_of_a_lock_file_is_not_followed(journal: Path, state: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    Path(f"{journal}.lock").symlink_to(victim)

    with pytest.raises(LockError, match="cannot be locked"):
        hold(journal, [], state, "follow").__enter__()
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room on that disk"),
        (errno.EDQUOT, "make room on that disk"),
        (errno.EROFS, "use a disk that can be written to"),
        (errno.EACCES, "check the permissions"),
    ],
)
def test_a_disk_that_takes_no_lock_is_a_failure_and_no_safety_rule(
    number: int, remedy: str, journal: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(LockError, match=f"copytrader.db.lock cannot be locked: .*; {remedy}") as refused:
        hold(journal, [], state, "follow").__enter__()

    assert refused.value.code is ExitCode.FAILED


def test_a_place_where_no_file_can_be_made_is_not_taken_for_one_in_use(state: Path) -> None:
    with pytest.raises(
        LockError, match=r"^/proc/x\.db\.lock cannot be created: .*; use a disk that can be "
    ) as refused:
        hold(Path("/proc/x.db"), [], state, "follow").__enter__()

    assert (type(refused.value), refused.value.code) == (LockError, ExitCode.FAILED)


def test_a_place_where_no_lock_is_safe_is_refused_by_a_safety_rule(journal: Path, state: Path) -> None:
    Path(f"{journal}.lock").mkdir()

    with pytest.raises(LockError, match="use a local disk") as refused:
        hold(journal, [], state, "follow").__enter__()

    assert refused.value.code is ExitCode.SAFETY

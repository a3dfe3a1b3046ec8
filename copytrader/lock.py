"""One writer per journal and one sender per follower, on this machine.

A lock is the kernel's `flock` on a file of its own, taken by filelock: it is gone the
moment its process is, however that died, and the file stays.  The holder writes into the file
who it is, for the message to whoever comes second; what is written there decides nothing.

The journal's lock stands beside the file that its path really leads to.  A hard link or a
copy of a journal has another path: there the locks of the followers, which are named
for their client ids, tell the second one no.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from copytrader.core.model import IST
from copytrader.failure import ExitCode, Failure

_CLIENT_ID = re.compile(r"[0-9A-Za-z]{1,32}")
_PATIENCE_SECONDS = 0.2
"""How long a refused process waits for the holder to have written its name."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock; `pid` 0 where the holder has not said."""

    pid: int = 0
    purpose: str = ""
    host: str = ""
    since: str = ""

    def __str__(self) -> str:
        if not self.pid:
            return "another process"
        return f"`copytrader {self.purpose}`, process {self.pid} on {self.host} since {self.since}"


class LockError(Failure):
    """A lock cannot be taken, in one line: what, where, what to do."""

    code = ExitCode.SAFETY


class LockHeld(LockError):
    """Another process works with this journal or for this follower."""

    def __init__(self, what: str, holder: Holder) -> None:
        super().__init__(f"{what} is in use by {holder}; stop that one first")
        self.what = what
        self.holder = holder


@contextmanager
def hold(journal_path: Path, follower_client_ids: Collection[str], state_dir: Path, purpose: str) -> Iterator[None]:
    """Hold a journal and its followers for as long as the block runs, or raise LockHeld at once.

    `purpose` is the command that asks, as `follow`.  The followers are taken in the order of their
    client ids, so that of two processes that want the same ones the same one always wins.
    """
    journal = Path(os.path.realpath(journal_path))
    with ExitStack() as held:
        held.enter_context(_locked(Path(f"{journal}.lock"), f"the journal {journal}", purpose))
        locks = _directory(state_dir)
        for client_id in sorted(set(follower_client_ids)):
            if not _CLIENT_ID.fullmatch(client_id):
                raise LockError(f"{client_id!r} is no client id: letters and digits only")
            held.enter_context(_locked(locks / f"{client_id}.lock", f"follower {client_id}", purpose))
        yield


def is_signed(journal_path: Path) -> bool:
    """Tell whether a living process has signed as the one that writes a journal; nothing is locked by asking."""
    return _is_alive(_read(Path(f"{os.path.realpath(journal_path)}.lock")))


def _directory(state_dir: Path) -> Path:
    locks = Path(os.path.realpath(state_dir)) / "locks"
    try:
        locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(locks, "created", error) from error
    return locks


_REMEDIES = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room on that disk",
    errno.EROFS: "use a disk that can be written to",
    errno.ENOENT: "use a disk that can be written to",
    errno.EACCES: "check the permissions of it and of its folder",
    errno.EPERM: "check the permissions of it and of its folder",
}


def _refused(path: Path, done: str, error: OSError) -> LockError:
    """Return what stands in the way of a lock file: the disk, which can be mended, or a place where no lock is safe."""
    if error.errno in _REMEDIES:
        why = f"{path} cannot be {done}: {error.strerror}; {_REMEDIES[error.errno]}"
        return LockError(why, code=ExitCode.FAILED)
    return LockError(f"{path} cannot be {done}: {error.strerror}; use a local disk that you may write to")


@contextmanager
def _locked(path: Path, what: str, purpose: str) -> Iterator[None]:
    """Hold one lock file, refusing every substitute for a lock of the kernel."""
    lock = FileLock(
        path,
        mode=0o600,
        blocking=False,
        thread_local=False,
        fallback_to_soft=False,
        preserve_lock_file=True,
        on_acquired=lambda descriptor: _sign(descriptor, purpose),
    )
    try:
        lock.acquire()
    except Timeout as error:
        if not path.exists():  # filelock takes a place where no file can be made for one that is contended
            raise _refused(path, "created", FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))) from error
        raise LockHeld(what, _holder(path)) from error
    except OSError as error:
        raise _refused(path, "locked", error) from error
    try:
        yield
    finally:
        with suppress(OSError):
            os.truncate(path, 0)
        lock.release()


def _sign(descriptor: int, purpose: str) -> None:
    """Write down who holds the lock; a holder that left without a word may have been longer."""
    since = datetime.now(IST).strftime("%Y-%m-%d %H:%M:%S IST")
    holder = Holder(os.getpid(), purpose, socket.gethostname(), since)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)


def _holder(path: Path) -> Holder:
    """Read who holds a lock, waiting a moment for a holder that is just signing."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        holder = _read(path)
        if _is_alive(holder) or time.monotonic() > deadline:
            return holder if _is_alive(holder) else Holder()
        time.sleep(0.01)


def _read(path: Path) -> Holder:
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return Holder()


def _is_alive(holder: Holder) -> bool:
    """Tell whether a signature can be the holder's; that of a killed one stays in the file."""
    if not holder.pid or holder.host != socket.gethostname():
        return bool(holder.pid)
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

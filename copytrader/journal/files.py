"""Where a journal may live, and who may read it.

The database, its `-wal` and its `-shm` belong to their owner alone: SQLite gives the two the
mode of the first, so the first is created 0600 before SQLite sees it.  A journal's file
is never opened here once it exists: closing any descriptor of it would drop the locks that
SQLite holds on it in this process.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from copytrader.crash import crash_point
from copytrader.failure import ExitCode
from copytrader.journal.errors import JournalError

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "9p", "ceph", "glusterfs", "fuse.sshfs"})
_PRIVATE = 0o600
_BESIDE = ("-wal", "-shm")
_WITH_COPIES = (*_BESIDE, "-journal")
_UNFINISHED = re.compile(rf"\.(?P<name>.+)\.(?P<process>\d{{1,9}})\.partial(?:{'|'.join(_WITH_COPIES)})?")

Marks = Mapping[Path, tuple[int, int]]
"""The files of an open journal, each with its device and inode: these stay with a file that gets another name."""


def for_writing(path: Path) -> Path:
    """Return the real path of a journal, its file there and private."""
    real = _local(path)
    if not os.access(real.parent, os.W_OK | os.X_OK):
        raise JournalError(f"{real.parent} is not writable; the journal needs to write there, also beside its file")
    if not real.exists() and has_wal(real):  # of an empty file SQLite takes it for a remnant, and deletes it
        raise JournalError(f"{real} is not there, but its -wal is; put it back, or move the -wal away to begin anew")
    _create(real)
    _keep_private(real)
    return real


def for_reading(path: Path) -> Path:
    """Return the real path of a journal that exists."""
    real = _local(path)
    if not real.exists():
        raise JournalError(f"{real}: there is no journal yet; `copytrader follow` creates it")
    _require_regular(real)
    return real


def has_wal(real: Path) -> bool:
    """Tell whether commits wait beside a journal that are not in its file yet."""
    wal = Path(f"{real}-wal")
    return wal.exists() and wal.stat().st_size > 0


def marks(path: Path, real: Path) -> Marks:
    """Return what the files of an open journal are known by: that which `path` leads to, and the two beside it."""
    names = (path.absolute(), *(Path(f"{real}{end}") for end in _BESIDE))
    return {name: mark for name in names if (mark := _mark(name)) is not None}


def require_in_place(known: Marks) -> None:
    """Raise where one of these files is gone or is another one now.

    What is written into a file without its name is found by nobody.  A folder that may not be looked into tells
    nothing of it.  Nobody may start again by himself where the file is gone: he would begin another one.
    """
    for path, mark in known.items():
        with suppress(PermissionError):
            if _mark(path) != mark:
                raise JournalError(
                    f"{path} was moved, deleted or replaced while it was in use; "
                    "put the journal's files back, all of them, before the next start",
                    code=ExitCode.FAILED if path.name.endswith(_BESIDE) else ExitCode.SAFETY,
                )


def for_backup(path: Path) -> Path:
    """Return the real path of a copy that is yet to be made."""
    real = Path(os.path.realpath(path))
    if real.exists():
        raise JournalError(f"{real} exists already; a backup overwrites nothing, name another file")
    if not real.parent.is_dir():
        raise JournalError(f"{real.parent} is no directory; create it, or name another place for the backup")
    if not os.access(real.parent, os.W_OK | os.X_OK):
        raise JournalError(f"{real.parent} is not writable; name another place for the backup")
    return real


@contextmanager
def unfinished(real: Path) -> Iterator[Path]:
    """Yield a private file for a copy; it gets its name once the block is through, and is gone where that fails."""
    clear_remnants(real)
    partial = real.with_name(f".{real.name}.{os.getpid()}.partial")
    _create(partial)
    try:
        yield partial
        _finish(partial, real)
    finally:
        for end in ("", *_WITH_COPIES):
            with suppress(OSError):  # what stays is named the next time; how the copying ended is what counts
                Path(f"{partial}{end}").unlink(missing_ok=True)


def clear_remnants(real: Path) -> None:
    """Delete what copies that were killed and were to get this name have left."""
    for left, name in remnants(real.parent):
        if name == real.name:
            left.unlink(missing_ok=True)


def remnants(folder: Path) -> list[tuple[Path, str]]:
    """Return what copies that were killed have left in a folder, each with the name that the copy was to get."""
    found = []
    for path in sorted(folder.glob(".*.partial*")):
        match = _UNFINISHED.fullmatch(path.name)
        if match is not None and not _is_another(int(match["process"])):
            found.append((path, match["name"]))
    return found


def _is_another(process: int) -> bool:
    """Tell whether a process with this number lives that is not this one."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def _finish(partial: Path, real: Path) -> None:
    """Give a whole copy its name, durably, unless the name was taken meanwhile."""
    sync(partial)
    try:
        os.link(partial, real)
    except FileExistsError as error:
        raise JournalError(f"{real} exists already; a backup overwrites nothing, name another file") from error
    crash_point("linked")
    sync(real.parent)


def sync(path: Path) -> None:
    """Let a file last, or the names in a folder, even if the power fails."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_system(path: Path, mounts: str) -> str:
    """Return the type of the file system that holds a path, given the text of /proc/mounts."""
    found = (0, "")
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split()
        point = point.encode().decode("unicode_escape")
        if path.is_relative_to(point) and len(point) >= found[0]:
            found = (len(point), kind)
    return found[1]


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _local(path: Path) -> Path:
    real = Path(os.path.realpath(path))
    if not real.parent.is_dir():
        raise JournalError(f"{real.parent} is no directory; create it, or name another place in `journal`")
    kind = file_system(real.parent, _mounts())
    if kind in _NETWORK:
        raise JournalError(f"{real} is on a network file system ({kind}), where SQLite loses commits; use a local disk")
    return real


def _mounts() -> str:
    """Return the mounted file systems, nothing where the system does not list them in /proc."""
    try:
        return Path("/proc/mounts").read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _create(real: Path) -> None:
    try:
        os.close(os.open(real, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE))
    except FileExistsError:
        return
    except OSError as error:
        raise JournalError(f"{real} cannot be created: {error.strerror}; name another place in `journal`") from error


def _keep_private(real: Path) -> None:
    found = _require_regular(real)
    if found.st_uid != os.geteuid():
        raise JournalError(f"{real} belongs to another user; name another file in `journal`")
    for name in (real, *(Path(f"{real}{end}") for end in _BESIDE)):
        if name.exists() and stat.S_IMODE(name.stat().st_mode) != _PRIVATE:
            name.chmod(_PRIVATE)


def _require_regular(real: Path) -> os.stat_result:
    found = real.stat()
    if not stat.S_ISREG(found.st_mode):
        raise JournalError(f"{real} is not a file; name another place in `journal`")
    return found

from __future__ import annotations

import logging
import stat
import time
from datetime import datetime
from pathlib import Path

import pytest

from copytrader import logfile
from copytrader.core.model import IST
from copytrader.failure import ExitCode, Failure

FULL = Path("/dev/full")
LACKING = "warning: /dev/full lacks lines: No space left on device; the journal has everything"


def nobody(text: str) -> None:
    pytest.fail(f"nothing is to be said: {text}")


def test_what_is_said_stands_in_a_private_file_with_its_time(tmp_path: Path) -> None:
    path = tmp_path / "follow.log"
    with logfile.kept(path, nobody) as write:
        write("asha: place 100% of it")
        logging.getLogger("copytrader.copier").warning("a %s", "warning")

    lines = path.read_text().splitlines()
    assert [line[26:] for line in lines] == ["asha: place 100% of it", "a warning"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_its_times_are_indian_wherever_the_machine_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    path = tmp_path / "follow.log"
    before = datetime.now(IST).replace(microsecond=0)
    try:
        with logfile.kept(path, nobody) as write:
            write("one")
    finally:
        monkeypatch.undo()
        time.tzset()

    written = path.read_text()[:25]
    assert written.endswith("+05:30")
    assert before <= datetime.fromisoformat(written) <= datetime.now(IST)


def test_a_second_session_goes_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "follow.log"
    for text in ("one", "two"):
        with logfile.kept(path, nobody) as write:
            write(text)

    assert [line[26:] for line in path.read_text().splitlines()] == ["one", "two"]


def test_the_file_is_turned_over_and_the_old_ones_stay_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "LARGEST", 1000)
    monkeypatch.setattr(logfile, "KEPT", 3)
    with logfile.kept(tmp_path / "follow.log", nobody) as write:
        for number in range(200):
            write(f"line {number:04}")

    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["follow.log", "follow.log.1", "follow.log.2", "follow.log.3"]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 and file.stat().st_size <= 1000 for file in files)
    assert files[0].read_text().endswith("line 0199\n")


def test_no_path_keeps_no_log(tmp_path: Path) -> None:
    with logfile.kept(None, nobody) as write:
        write("x")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    path = tmp_path / "none" / "follow.log"
    with pytest.raises(Failure) as failed, logfile.kept(path, nobody):
        pass
    assert str(failed.value) == f"{path} cannot be written: No such file or directory; name another in `log`"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "follow.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failure), logfile.kept(tmp_path / "follow.log", nobody):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_lines_that_cannot_be_written_are_said_once_and_nothing_else_changes() -> None:
    said = list[str]()
    with logfile.kept(FULL, said.append) as write:
        write("one")
        write("two")

    assert said == [LACKING]


def test_a_full_disk_hides_no_failure() -> None:
    said = list[str]()

    def session() -> None:
        with logfile.kept(FULL, said.append) as write:
            write("one")
            raise Failure("in use", code=ExitCode.SAFETY)

    with pytest.raises(Failure) as failed:
        session()

    assert failed.value.code is ExitCode.SAFETY
    assert said == [LACKING]

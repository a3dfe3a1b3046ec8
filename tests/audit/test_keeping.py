from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from copytrader.audit import keeping
from copytrader.core.facts import Halted, Stopped
from copytrader.core.model import IST, Side
from copytrader.failure import ExitCode, Failure
from copytrader.journal import Journal, pruning
from copytrader.lock import hold
from tests.audit.journals import NOON, RUN, Writer, audit

NOW = NOON + timedelta(days=10)


def days(path: Path, count: int = 5) -> Path:
    """A journal of some days; each begins with a start and ends flat."""
    writer = Writer(path)
    for number in range(count):
        writer.now = NOON + timedelta(days=number)
        writer.start()
        writer.instrument()
        writer.positions()
        writer.copied(number * 10)
        writer.copied(number * 10 + 1, side=Side.SELL)
        writer.skipped(number * 10 + 2)
        writer.record(Stopped(writer.now))
    return writer.close()


# --- Export and backup ---------------------------------------------------------------------


def test_an_export_has_the_facts_the_views_and_the_page(tmp_path: Path) -> None:
    path = days(tmp_path / "j.db", 2)
    target = tmp_path / "out"

    done = audit(path, "export", str(target), "--date", "2026-11-24")

    assert done.exit_code == 0
    assert {file.name for file in target.iterdir()} == {
        "facts.jsonl",
        "report.html",
        *(f"{view}.csv" for view in keeping.EXPORTED),
    }
    facts = [json.loads(line) for line in (target / "facts.jsonl").read_text().splitlines()]
    assert {fact["at"][:10] for fact in facts} == {"2026-11-24"}
    with (target / "copies.csv").open() as file:
        assert [row["filled_quantity"] for row in csv.DictReader(file)] == ["75", "75"]
    assert {file.stat().st_mode & 0o777 for file in target.iterdir()} == {0o600}


def test_an_export_without_a_time_has_everything(tmp_path: Path) -> None:
    path = days(tmp_path / "j.db", 2)

    audit(path, "export", str(tmp_path / "out"))

    with Journal.open(path, read_only=True) as journal:
        assert len((tmp_path / "out/facts.jsonl").read_text().splitlines()) == journal.last_seq


def test_an_export_that_finds_no_room_leaves_no_cut_file(tmp_path: Path) -> None:
    path = days(tmp_path / "j.db", 12)
    target = tmp_path / "out"
    command = f"ulimit -f 40; exec {sys.executable} -m copytrader audit --journal {path} export {target}"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert str(target) in done.stderr and "Traceback" not in done.stderr
    assert list(target.iterdir()) == []


def test_an_export_overwrites_nothing(tmp_path: Path) -> None:
    path = days(tmp_path / "j.db", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")

    done = audit(path, "export", str(tmp_path / "out"))

    assert done.exit_code == 1 and "is not empty" in done.stderr
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_backup_is_a_whole_journal(tmp_path: Path) -> None:
    path = days(tmp_path / "j.db", 1)

    assert audit(path, "backup", str(tmp_path / "copy.db")).exit_code == 0
    assert audit(path, "backup", str(tmp_path / "copy.db")).exit_code == 1

    assert audit(tmp_path / "copy.db", "verify").stdout == audit(path, "verify").stdout


def test_a_backup_clears_away_what_a_killed_one_of_its_name_has_left_and_names_the_others(tmp_path: Path) -> None:
    """A copy that is still being made by another process is left alone."""
    path = days(tmp_path / "j.db", 1)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead, alive = process.pid, os.getppid()
    lying = [
        f".copy.db.{dead}.partial",
        f".copy.db.{dead}.partial-journal",
        f".copy.db.{alive}.partial",
        f".old.db.{dead}.partial",
    ]
    for each in lying:
        (tmp_path / each).touch()

    done = audit(path, "backup", str(tmp_path / "copy.db"))

    assert done.exit_code == 0
    assert (
        done.stderr
        == f"{tmp_path / lying[3]} is what a copy that was killed has left: nothing is in it alone, delete it\n"
    )
    assert names(tmp_path) == [*lying[2:], "copy.db", "j.db"]


# --- Pruning -------------------------------------------------------------------------------


def seqs(path: Path) -> list[int]:
    with Journal.open(path, read_only=True) as journal:
        return [row.seq for row in journal.facts()]


def test_whole_days_move_into_an_archive_and_both_parts_prove_themselves(tmp_path: Path) -> None:
    path = days(tmp_path / "j.db")
    every = seqs(path)
    noted = audit(path, "verify", "--anchor", "--date", "2026-11-24").stdout.splitlines()[-1].split()[1]

    done = keeping.prune(path, NOON.date() + timedelta(days=3), None, NOW)

    assert done is not None
    archive = tmp_path / "j.until-2026-11-25.db"
    assert (done.archive, done.last_day) == (archive, "2026-11-25")
    assert seqs(archive) + seqs(path) == every
    assert audit(path, "verify").exit_code == audit(archive, "verify").exit_code == 0
    assert f"facts up to {done.through} are in j.until-2026-11-25.db" in audit(path, "verify").stdout
    for digest in (noted, done.digest):
        assert audit(path, "verify", "--against", digest).exit_code == 0
    assert archive.stat().st_mode & 0o777 == 0o600


def test_an_archive_may_be_named_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = days(tmp_path / "j.db")
    every = seqs(path)
    monkeypatch.chdir(tmp_path)

    done = keeping.prune(path, NOON.date() + timedelta(days=2), Path("old.db"), NOW)

    assert done is not None and done.archive == tmp_path / "old.db"
    assert seqs(done.archive) + seqs(path) == every


def test_where_nothing_can_be_taken_out_the_archive_stays_and_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = days(tmp_path / "j.db")
    every = seqs(path)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(pruning, "_remove", full)
    with pytest.raises(Failure, match="disk is full") as failed:
        keeping.prune(path, NOON.date() + timedelta(days=2), tmp_path / "old.db", NOW)
    monkeypatch.undo()

    assert failed.value.lines[1] == f"{tmp_path}/old.db is whole and stays: the same prune goes on from there"
    assert seqs(path) == every
    made = (tmp_path / "old.db").stat()
    keeping.prune(path, NOON.date() + timedelta(days=2), tmp_path / "old.db", NOW)
    assert (tmp_path / "old.db").stat() == made
    assert seqs(tmp_path / "old.db") + seqs(path) == every


def test_an_archive_that_alone_has_the_facts_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = days(tmp_path / "j.db")
    every, remove = seqs(path), pruning._remove

    def removed_and_interrupted(*given: Any) -> None:
        remove(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(pruning, "_remove", removed_and_interrupted)
    with pytest.raises(KeyboardInterrupt):
        keeping.prune(path, NOON.date() + timedelta(days=2), tmp_path / "old.db", NOW)

    assert seqs(tmp_path / "old.db") + seqs(path) == every


PRUNE = """
import sys
from datetime import date, datetime
from pathlib import Path
from copytrader.audit import keeping
from copytrader.journal.pruning import shrink
keeping.prune(Path(sys.argv[1]), date.fromisoformat(sys.argv[2]), None, datetime.fromisoformat(sys.argv[3]))
shrink(Path(sys.argv[1]))
"""


def killed(path: Path, where: str, day: str = "2026-11-25") -> None:
    """Let a prune die, as if killed from outside."""
    arguments = [sys.executable, "-c", PRUNE, str(path), day, NOW.isoformat()]
    done = subprocess.run(arguments, env={**os.environ, "COPYTRADER_CRASH": where}, check=False)
    assert done.returncode == -signal.SIGKILL


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(("-wal", "-shm")))


ARCHIVE = "j.until-2026-11-24.db"


@pytest.mark.parametrize("where", ["copied", "cut", "linked", "archived", "unmoved", "moved"])
def test_a_prune_that_is_killed_loses_nothing_and_the_next_one_ends_it(tmp_path: Path, where: str) -> None:
    path, said = days(tmp_path / "j.db"), list[str]()
    every, size = seqs(path), path.stat().st_size

    killed(path, where)

    archived = seqs(tmp_path / ARCHIVE) if (tmp_path / ARCHIVE).exists() else []
    assert seqs(path) == (every[len(archived) :] if where == "moved" else every)
    keeping.prune(path, NOON.date() + timedelta(days=2), None, NOW, said.append)
    assert pruning.shrink(path) > 0
    assert pruning.shrink(path) == 0
    assert said == []
    assert seqs(tmp_path / ARCHIVE) + seqs(path) == every
    assert names(tmp_path) == ["j.db", ARCHIVE]
    assert path.stat().st_size < size
    assert audit(path, "verify").exit_code == audit(tmp_path / ARCHIVE, "verify").exit_code == 0


def test_a_later_prune_names_what_killed_ones_have_left(tmp_path: Path) -> None:
    path, said = days(tmp_path / "j.db"), list[str]()
    every = seqs(path)
    killed(path, "copied", "2026-11-24")
    killed(path, "archived", "2026-11-25")

    done = keeping.prune(path, NOON.date() + timedelta(days=3), None, NOW, said.append)

    assert done is not None and seqs(done.archive) + seqs(path) == every
    (partial,) = tmp_path.glob(".*.partial")
    assert said == [
        f"{partial} is what a copy that was killed has left: nothing is in it alone, delete it",
        f"{tmp_path / ARCHIVE} is of a prune that was killed: the journal still has every fact of it, delete it",
    ]
    said.clear()
    keeping.prune(path, NOON.date() + timedelta(days=3), None, NOW, said.append)
    assert f"{done.archive} " not in "\n".join(said)


def test_an_archive_of_other_days_is_not_gone_on_with(tmp_path: Path) -> None:
    """After a backup of before was put back, one has a part alone of what is to leave."""
    path, whole = days(tmp_path / "j.db"), tmp_path / "whole.db"
    with Journal.open(path, read_only=True) as journal:
        journal.backup(whole)
    keeping.prune(path, NOON.date() + timedelta(days=2), None, NOW)
    later = keeping.prune(path, NOON.date() + timedelta(days=3), None, NOW)
    assert later is not None
    archived = seqs(later.archive)

    with pytest.raises(Failure, match="the journal still has every fact of it: delete it, or name another"):
        keeping.prune(whole, NOON.date() + timedelta(days=3), later.archive, NOW)
    with pytest.raises(Failure, match="exists already; a backup overwrites nothing"):
        keeping.prune(path, NOON.date() + timedelta(days=4), later.archive, NOW)

    assert seqs(later.archive) == archived


def test_a_journal_that_cannot_be_made_smaller_says_that_nothing_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = days(tmp_path / "j.db")
    keeping.prune(path, NOON.date() + timedelta(days=2), None, NOW)
    monkeypatch.setattr("copytrader.journal.schema.BUSY_MILLISECONDS", 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(Failure, match=r"could not be made smaller .*; make room and prune again, nothing is missing"):
        pruning.shrink(path)

    other.close()
    assert pruning.shrink(path) > 0


def test_a_pruned_journal_is_written_on_and_pruned_again(tmp_path: Path) -> None:
    path = days(tmp_path / "j.db")
    keeping.prune(path, NOON.date() + timedelta(days=2), None, NOW)
    first = seqs(path)[0]

    with Journal.open(path) as journal:
        (seq,) = journal.record(Stopped(NOON + timedelta(days=5)))
    keeping.prune(path, NOON.date() + timedelta(days=4), None, NOW)

    assert seqs(path)[0] > first and seqs(path)[-1] == seq
    assert audit(path, "verify").exit_code == 0
    assert audit(path, "report").exit_code == 0


ARCHIVED = "facts before 2026-11-25 are in j.until-2026-11-24.db: `copytrader audit --journal FILE …` asks there"


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = days(tmp_path_factory.mktemp("pruned") / "j.db")
    keeping.prune(path, NOON.date() + timedelta(days=2), None, NOW)
    return path


@pytest.mark.parametrize(
    "asked",
    [
        ["report", "--date", "2026-11-24"],
        ["report", "--since", "2026-11-24", "--until", "2026-11-26"],
        ["--date", "2026-11-23"],
        ["--since", "2026-11-24T10:00"],
        ["--until", "2026-11-26", "--failed"],
        ["--date", "2026-11-24", "--json"],
        ["--date", "2026-11-24", "--csv"],
        ["explain", "362261123000001"],
    ],
)
def test_who_asks_for_what_is_in_an_archive_is_told_so(pruned: Path, asked: list[str]) -> None:
    done = audit(pruned, *asked)

    assert ARCHIVED in done.stdout + done.stderr
    assert "--json" not in asked or json.loads(done.stdout) == []


@pytest.mark.parametrize("asked", [["report"], ["--date", "2026-11-25"], ["--since", "2026-11-26", "--json"], []])
def test_who_asks_for_what_is_here_hears_of_no_archive(pruned: Path, asked: list[str]) -> None:
    done = audit(pruned, *asked)

    assert "until-2026-11-24.db" not in done.stdout + done.stderr


def test_a_report_says_in_its_document_and_on_its_page_what_is_in_an_archive(pruned: Path, tmp_path: Path) -> None:
    found = json.loads(audit(pruned, "report", "--date", "2026-11-24", "--json").stdout)
    audit(pruned, "report", "--date", "2026-11-24", "--html", str(tmp_path / "r.html"))

    assert found["elsewhere"] == ARCHIVED
    assert "until-2026-11-24.db" in (tmp_path / "r.html").read_text()


def test_an_altered_archive_is_found(tmp_path: Path) -> None:
    path = days(tmp_path / "j.db")
    done = keeping.prune(path, NOON.date() + timedelta(days=2), None, NOW)
    assert done is not None
    connection = sqlite3.connect(done.archive)
    connection.execute("DROP TRIGGER facts_are_final")
    connection.execute("UPDATE facts SET reason = 'HALTED' WHERE kind = 'Skip'")
    connection.commit()
    connection.close()

    found = audit(path, "verify")

    assert found.exit_code == 3
    assert "chain: j.until-2026-11-24.db: " in found.stdout


def test_a_removed_fact_after_the_pruned_ones_is_still_found(tmp_path: Path) -> None:
    path = days(tmp_path / "j.db")
    keeping.prune(path, NOON.date() + timedelta(days=2), None, NOW)
    first = seqs(path)[0]
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER facts_are_kept")
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("DELETE FROM facts WHERE seq = ?", (first,))
    connection.commit()
    connection.close()

    found = audit(path, "verify")

    assert found.exit_code == 3
    assert f"fact {first} is missing" in found.stdout


@pytest.mark.parametrize("stands", ["held", "halted", "altered"])
def test_what_is_still_needed_or_not_verified_is_not_moved(tmp_path: Path, stands: str) -> None:
    path = tmp_path / "j.db"
    writer = Writer(path)
    writer.start()
    writer.instrument()
    writer.positions()
    writer.copied(1)
    if stands != "held":
        writer.copied(2, side=Side.SELL)
    if stands == "halted":
        writer.record(Halted(writer.now))
    writer.now = NOON + timedelta(days=1)
    writer.start()
    writer.record(Stopped(writer.now))
    writer.close()
    if stands == "altered":
        connection = sqlite3.connect(path)
        connection.execute("DROP TRIGGER facts_are_final")
        connection.close()
    before = seqs(path)

    with pytest.raises(Failure) as failure:
        keeping.prune(path, NOON.date() + timedelta(days=1), None, NOW)

    assert failure.value.code is (ExitCode.FINDINGS if stands == "altered" else ExitCode.SAFETY)
    assert seqs(path) == before
    assert list(tmp_path.glob("*until*")) == []


def test_a_day_that_follow_ran_into_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    writer = Writer(path)
    writer.start()
    writer.now = NOON + timedelta(days=1)
    writer.skipped(1)
    writer.close()

    assert keeping.prune(path, NOON.date() + timedelta(days=1), None, NOW) is None


def test_the_last_two_days_stay(tmp_path: Path) -> None:
    path = days(tmp_path / "j.db", 3)
    now = datetime(2026, 11, 25, 18, tzinfo=IST)

    with pytest.raises(Failure, match="the last 2 days stay: name a date up to 2026-11-24") as failure:
        keeping.prune(path, now.date(), None, now)

    assert failure.value.code is ExitCode.USAGE


def test_the_command_prunes_only_while_nobody_writes(tmp_path: Path, write_config: object) -> None:
    from copytrader import tokens
    from copytrader.cli import app

    assert callable(write_config)
    config = write_config()
    days(tmp_path / "copytrader.db")
    arguments = ["audit", "--config", str(config), "prune", "--before", "2026-11-25"]

    with freeze_time(NOW):
        with hold(tmp_path / "copytrader.db", ["1000000002"], tokens.state_dir(), "follow"):
            refused = RUN.invoke(app, arguments)
        done = RUN.invoke(app, arguments)

    assert refused.exit_code != 0
    assert done.exit_code == 0, done.stderr
    assert "are now in" in done.stdout

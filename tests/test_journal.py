"""The journal: what goes in comes out, nothing is half written, and nobody alters it unseen."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, cast, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from copytrader.core.facts import (
    Accepted,
    BookRead,
    Connected,
    Event,
    Fact,
    Halted,
    Level,
    Noticed,
    OrderSeen,
    Place,
    Refused,
    Resumed,
    Role,
    Skip,
    Source,
    Started,
    Stopped,
    Ticked,
    Verb,
)
from copytrader.core.model import (
    IST,
    LEADER,
    Desk,
    Order,
    OrderStatus,
    OrderType,
    Product,
    RefusalClass,
    Security,
    Side,
    SkipReason,
    Ticket,
    Validity,
)
from copytrader.journal import Finding, Journal, JournalError, Step, files, schema
from copytrader.journal.codec import KINDS, CodecError, decode, encode
from copytrader.journal.migrations import migrations

AT = datetime(2026, 11, 23, 10, 0, 0, 123456, IST)
TICKET = Ticket(
    Security("NSE_FNO", "50001"), Side.BUY, Product.MARGIN, OrderType.LIMIT, Validity.DAY, 75, Decimal("100.10")
)


def tick(minutes: int = 0) -> Ticked:
    return Ticked(AT + timedelta(minutes=minutes))


def seen(order_id: str = "L1", account: str = LEADER, correlation_id: str = "", note: str = "") -> OrderSeen:
    order = Order(order_id, TICKET, OrderStatus.PENDING, AT, AT, correlation_id=correlation_id, note=note)
    return OrderSeen(AT, account, order, Source.STREAM, '{"Data":{}}')


def place(correlation_id: str = "ct1-a", account: str = "asha", leader_order_id: str = "L1") -> Place:
    return Place(
        account=account,
        leader_order_id=leader_order_id,
        correlation_id=correlation_id,
        ticket=TICKET,
        role=Role.ENTRY,
    )


def accepted(correlation_id: str = "ct1-a", account: str = "asha") -> Accepted:
    return Accepted(AT, account, correlation_id, Verb.PLACE, "F1", OrderStatus.TRANSIT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "copytrader.db"


def written(path: Path, count: int = 6) -> Path:
    """Write a journal of `count` facts, close it, and return its path."""
    with Journal.open(path) as journal:
        for number in range(count):
            journal.record(tick(number))
    return path


def tamper(path: Path, *statements: str) -> None:
    """Do what somebody with the file can do: drop the triggers and write as they please."""
    connection = sqlite3.connect(path)
    for trigger in ("facts_are_final", "facts_are_kept"):
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (trigger,)).fetchone()
        connection.execute(f"DROP TRIGGER {trigger}")
        statements = (*statements, sql)
    connection.execute("PRAGMA foreign_keys = OFF")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


# --- The codec ---


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return invented values of a type that a fact may hold."""
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        int: st.integers(),
        bool: st.booleans(),
        Decimal: st.decimals(allow_nan=False, allow_infinity=False, places=2) | st.just(Decimal("1E+2")),
        datetime: st.datetimes(timezones=st.sampled_from([IST, UTC])),
        date: st.dates(),
    }
    if hint in simple:
        return simple[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=2)
    if arguments:
        return st.one_of(*(st.none() if each is NoneType else values(each) for each in arguments))
    if issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    return st.builds(hint, **{name: values(each) for name, each in get_type_hints(hint).items()})


@pytest.mark.parametrize("kind", sorted(KINDS))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_kind_of_fact_comes_back_as_it_went_in(kind: str, data: st.DataObject) -> None:
    fact = data.draw(values(KINDS[kind]))

    back = decode(kind, encode(fact))

    assert back == fact
    assert encode(back) == encode(fact)


def test_a_price_keeps_its_last_zero() -> None:
    back = cast(OrderSeen, decode("OrderSeen", encode(seen())))

    assert str(back.order.ticket.price) == "100.10"


def test_a_key_of_a_newer_program_is_passed_over_and_a_missing_one_takes_its_default() -> None:
    body = '{"at":"2026-11-23T10:00:00+05:30","account":null,"colour":"red"}'

    assert decode("Halted", body) == Halted(datetime(2026, 11, 23, 10, 0, tzinfo=IST))


@pytest.mark.parametrize(
    ("kind", "body"), [("Ticked", "{}"), ("Ticked", "["), ("Ticked", '{"at":"noon"}'), ("Dreamt", "{}")]
)
def test_what_is_no_fact_is_refused_with_its_place(kind: str, body: str) -> None:
    with pytest.raises(CodecError, match=kind):
        decode(kind, body)


def test_a_fact_of_wrong_types_is_not_written() -> None:
    with pytest.raises(CodecError, match="Ticked cannot be written"):
        encode(Ticked(cast(datetime, 5)))


def test_half_a_character_from_the_broker_does_not_stop_the_journal() -> None:
    with Journal.open(":memory:") as journal:
        journal.record(seen(order_id="L\ud83d", note="low \ud83d margin"))
        (row,) = journal.facts()

    assert cast(OrderSeen, row.fact).order.note == "low ? margin"


# --- Recording ---


def test_decisions_follow_their_event_and_name_it_as_their_cause() -> None:
    with Journal.open(":memory:") as journal:
        first = journal.record(tick())
        seqs = journal.record(seen(), [place(), Skip("ravi", "L1", SkipReason.STALE, "12 s old")], cause=first[0])

        assert (first, seqs) == ((1,), (2, 3, 4))
        assert [(row.seq, row.cause, row.kind) for row in journal.facts()] == [
            (1, None, "Ticked"),
            (2, 1, "OrderSeen"),
            (3, 2, "Place"),
            (4, 2, "Skip"),
        ]
        assert [row.fact for row in journal.facts(2)] == [place(), Skip("ravi", "L1", SkipReason.STALE, "12 s old")]


def test_several_events_go_in_together() -> None:
    with Journal.open(":memory:") as journal:
        assert journal.record_many([(seen(), [place()], None), (tick(), [], 1)]) == [(1, 2), (3,)]
        assert journal.record_many([]) == []
        assert journal.record(tick()) == (4,)
        assert journal.verify() == []


def test_a_time_is_written_in_indian_time_with_microseconds_so_that_text_sorts_as_time() -> None:
    with Journal.open(":memory:") as journal:
        journal.record(Ticked(datetime(2026, 11, 23, 4, 30, tzinfo=UTC)))
        (row,) = journal.facts()

    assert row.at == "2026-11-23T10:00:00.000000+05:30"
    assert row.time == datetime(2026, 11, 23, 4, 30, tzinfo=UTC)


def test_a_time_without_a_zone_is_refused() -> None:
    with Journal.open(":memory:") as journal, pytest.raises(ValueError, match="zone"):
        journal.record(Ticked(datetime(2026, 11, 23)))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("fact", "names"),
    [
        (seen("L1"), (None, "L1", "L1", None, None)),
        (seen("F1", "asha", "own-7"), ("asha", None, "F1", "own-7", None)),
        (tick(), (None, None, None, None, None)),
        (
            Refused(AT, "asha", "ct1-z", Verb.PLACE, RefusalClass.MARGIN, "DH-906", "no funds"),
            ("asha", None, None, "ct1-z", "MARGIN"),
        ),
        (BookRead(AT, "asha", ()), ("asha", None, None, None, None)),
    ],
)
def test_a_fact_can_be_found_by_its_names(fact: Event, names: tuple[str | None, ...]) -> None:
    with Journal.open(":memory:") as journal:
        journal.record(fact)
        (row,) = journal.facts()

    assert (row.follower, row.leader_order_id, row.order_id, row.correlation_id, row.reason) == names


def test_an_answer_is_found_by_the_leader_order_that_its_copy_belongs_to() -> None:
    with Journal.open(":memory:") as journal:
        _, command = journal.record(seen(), [place("ct1-a")])
        journal.record(accepted("ct1-a"), cause=command)
        journal.record_many([(seen("L2"), [place("ct1-b", leader_order_id="L2")], None), (accepted("ct1-b"), [], None)])

        assert [row.kind for row in journal.facts(leader_order_id="L1")] == ["OrderSeen", "Place", "Accepted"]
        assert [row.kind for row in journal.facts(leader_order_id="L2")] == ["OrderSeen", "Place", "Accepted"]


def test_facts_can_be_asked_for_by_everything_that_names_them() -> None:
    with Journal.open(":memory:") as journal:
        journal.record(seen(), [place(), place("ct1-b", "ravi")])
        journal.record(accepted(), cause=2)
        journal.record(tick(24 * 60))

        found: Callable[..., list[int]] = lambda **by: [row.seq for row in journal.facts(**by)]  # noqa: E731
        assert found(kinds={"Place", "Ticked"}) == [2, 3, 5]
        assert found(kinds={"Place"}, since_seq=2) == [3]
        assert found(kinds=()) == []
        assert found(follower="asha") == [2, 4]
        assert found(correlation_id="ct1-a") == [2, 4]
        assert found(order_id="F1") == [4]
        assert found(cause=1) == [2, 3]
        assert found(day=date(2026, 11, 24)) == [5]
        assert found(follower="' OR 1=1 --") == []
        assert [row.seq for row in journal.events()] == [1, 4, 5]
        assert journal.row(4) == next(journal.facts(3))
        assert journal.row(9) is None
        assert journal.last_seq == 5


def test_pages_hold_every_fact_once_and_in_order() -> None:
    with Journal.open(":memory:") as journal:
        journal.record_many([(tick(number), [], None) for number in range(2500)])

        assert [row.seq for row in journal.facts()] == list(range(1, 2501))


def test_every_question_of_the_audit_has_an_index() -> None:
    with Journal.open(":memory:") as journal:
        for clause in (
            "at >= '2026' AND at < '2027'",
            "kind = 'Skip'",
            "cause = 1",
            "leader_order_id = 'L1'",
            "correlation_id = 'ct1-a'",
            "order_id = 'F1'",
            "follower = 'asha'",
        ):
            _, plan = journal.query(f"EXPLAIN QUERY PLAN SELECT * FROM facts WHERE {clause}")
            assert "USING INDEX facts_by_" in plan[0][3], clause


# --- The outbox ---


def test_the_outbox_holds_commands_without_an_outcome() -> None:
    with Journal.open(":memory:") as journal:
        journal.record(seen(), [place("ct1-a"), place("ct1-b"), Skip("ravi", "L1", SkipReason.STALE)])
        journal.record(tick(), cause=3)
        assert [row.seq for row in journal.outbox()] == [2, 3]

        journal.record(accepted("ct1-a"), cause=2)
        assert [row.fact for row in journal.outbox()] == [place("ct1-b")]
        assert journal.query("SELECT seq, kind FROM outbox") == (("seq", "kind"), [(3, "Place")])
        assert journal.outbox(since_seq=3) == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_dry_runs_commands_are_never_in_the_outbox(dry_run: bool) -> None:
    with Journal.open(":memory:") as journal:
        journal.record(Started(AT, "1.0", "digest", Desk("1000000001", ()), dry_run=not dry_run))
        journal.record(Started(AT, '"dry_run":true', "digest", Desk("1000000001", ()), dry_run=dry_run))
        journal.record(seen(), [place()])

        assert [row.seq for row in journal.outbox()] == ([] if dry_run else [4])


# --- Nothing half written ---


def fill(journal: Journal) -> None:
    for _ in range(1000):
        journal.record(seen(), [place()] * 20)


def test_a_full_disk_leaves_nothing_half_written_and_the_journal_goes_on_after_it(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.record(tick())
        (pages,) = journal.query("PRAGMA page_count")[1][0]
        journal.query(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(JournalError, match="the disk is full"):
            fill(journal)
        whole = journal.last_seq

        journal.query("PRAGMA max_page_count = 1000000")
        assert journal.record(seen(), [place()]) == (whole + 1, whole + 2)
        assert (whole - 1) % 21 == 0
        assert journal.verify() == []


def test_a_locked_journal_refuses_and_leaves_nothing(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.query("PRAGMA busy_timeout = 20")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="held it locked"):
            journal.record(seen(), [place()])
        other.execute("ROLLBACK")
        other.close()

        assert journal.record(tick()) == (1,)


def test_a_cause_that_is_not_there_is_refused_whole() -> None:
    with Journal.open(":memory:") as journal:
        with pytest.raises(JournalError, match="cause of a fact is not in it"):
            journal.record(seen(), [place()], cause=77)
        assert journal.last_seq == 0
        assert journal.record(tick()) == (1,)


def test_a_second_writer_is_noticed_at_the_first_write(path: Path) -> None:
    with Journal.open(path) as ours, Journal.open(path) as theirs:
        theirs.record(tick())
        with pytest.raises(JournalError, match="another process has written"):
            ours.record(tick())


def test_a_commit_is_durable_when_the_process_is_killed(path: Path) -> None:
    script = (
        "import sys, os, signal\n"
        "from datetime import datetime, timezone\n"
        "from copytrader.core.facts import Ticked\n"
        "from copytrader.journal import Journal\n"
        "journal = Journal.open(sys.argv[1])\n"
        "while True:\n"
        "    print(journal.record(Ticked(datetime.now(timezone.utc)))[0], flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(200)][-1]
    process.kill()
    acknowledged = int(([str(acknowledged), *process.stdout.read().split("\n")[:-1]])[-1])
    process.wait()
    process.stdout.close()

    with Journal.open(path) as journal:
        assert journal.last_seq >= acknowledged


def test_commits_are_synchronous_and_the_settings_hold(path: Path) -> None:
    with Journal.open(path) as journal:
        read: Callable[[str], Any] = lambda name: journal.query(f"PRAGMA {name}")[1][0][0]  # noqa: E731
        assert read("journal_mode") == "wal"
        assert [read(name) for name in ("synchronous", "foreign_keys", "trusted_schema", "cell_size_check")] == [
            2,
            1,
            0,
            1,
        ]
        assert read("busy_timeout") == 5000
        assert read("journal_size_limit") == 16 * 1024 * 1024
        with closing(Database(memory=True)) as empty:
            assert read("user_version") == schema.VERSION == len(migrations.pending(empty))


# --- Nobody alters it unseen ---


def test_a_hash_is_made_of_the_hash_before_and_the_columns_as_json_and_the_body() -> None:
    with Journal.open(":memory:") as journal:
        journal.record(
            seen('L"1"\\ é\x7f\u2028\x01', note="é"), [place(), Skip("ravi", "L1", SkipReason.STALE, "12 s old")]
        )
        journal.record(seen("F\ud83d", "asha", "ct1-a"), cause=2)

        previous = ""
        for *columns, body, stored in journal.facts():
            text = previous + json.dumps(columns, separators=(",", ":")) + body
            assert stored == hashlib.sha256(text.encode()).hexdigest()
            previous = stored


@pytest.mark.parametrize("statement", ["UPDATE facts SET reason = 'x'", "DELETE FROM facts WHERE seq = 1"])
def test_the_journal_itself_refuses_to_change_or_remove_a_fact(path: Path, statement: str) -> None:
    connection = sqlite3.connect(written(path))

    with pytest.raises(sqlite3.IntegrityError, match="facts are"):
        connection.execute(statement)
    connection.close()


_SWAP = (
    "UPDATE facts SET seq = 100 WHERE seq = {0}",
    "UPDATE facts SET seq = {0} WHERE seq = {1}",
    "UPDATE facts SET seq = {1} WHERE seq = 100",
)


@pytest.mark.parametrize(
    ("statements", "findings"),
    [
        (
            ["UPDATE facts SET body = replace(body, '10:03', '10:04') WHERE seq = 4"],
            [(4, "fact 4 or its hash was changed")],
        ),
        (["UPDATE facts SET reason = 'STALE' WHERE seq = 1"], [(1, "fact 1 or its hash was changed")]),
        (["UPDATE facts SET cause = 1 WHERE seq = 6"], [(6, "fact 6 or its hash was changed")]),
        (["UPDATE facts SET hash = 'abc' WHERE seq = 3"], [(3, "fact 3 or its hash was changed")]),
        (["DELETE FROM facts WHERE seq = 3"], [(4, "fact 3 is missing, so that fact 4 cannot be checked")]),
        (["DELETE FROM facts WHERE seq < 3"], [(3, "facts 1 to 2 are missing, so that fact 3 cannot be checked")]),
        ([each.format(3, 4) for each in _SWAP], [(3, "facts 3 and 4 have changed places")]),
        ([each.format(2, 5) for each in _SWAP], [(2, "facts 2 and 5 have changed places")]),
    ],
)
def test_what_somebody_altered_is_named(
    path: Path, statements: Sequence[str], findings: Sequence[tuple[int, str]]
) -> None:
    tamper(written(path), *statements)

    with Journal.open(path, read_only=True) as journal:
        assert journal.verify() == [Finding(seq, what) for seq, what in findings]
    with pytest.raises(JournalError, match=findings[0][1]):
        Journal.open(path)


def test_a_dropped_trigger_is_a_finding(path: Path) -> None:
    connection = sqlite3.connect(written(path))
    connection.execute("DROP TRIGGER facts_are_kept")
    connection.close()

    with Journal.open(path, read_only=True) as journal:
        assert journal.verify() == [Finding(None, "facts_are_kept is missing")]


def test_facts_cut_off_at_the_end_are_found_by_a_digest_noted_elsewhere(path: Path) -> None:
    with Journal.open(written(path)) as journal:
        digest = journal.digest(AT.date())
        assert journal.digest(date(2026, 11, 24)) is None
    assert digest is not None
    tamper(path, "DELETE FROM facts WHERE seq > 4")

    with Journal.open(path) as journal:
        assert journal.verify() == []
        (finding,) = journal.verify(digests=[digest])
        assert finding.what.startswith(f"no fact has the digest {digest}")
        assert journal.verify(digests=[cast(str, journal.digest(AT.date()))]) == []


def test_a_check_can_begin_in_the_middle(path: Path) -> None:
    tamper(written(path), "UPDATE facts SET reason = 'x' WHERE seq = 2")

    with Journal.open(path, read_only=True) as journal:
        assert journal.verify(since=2) == []
        assert len(journal.verify(since=1)) == 1


def test_a_flipped_byte_anywhere_is_found_at_the_start_or_is_harmless(path: Path) -> None:
    whole = written(path, 40).read_bytes()
    with Journal.open(path, read_only=True) as journal:
        facts = [row.fact for row in journal.facts()]
    complaints = []
    for place_in_file in range(100, len(whole), max(1, len(whole) // 150)):
        path.write_bytes(whole[:place_in_file] + bytes([whole[place_in_file] ^ 0x41]) + whole[place_in_file + 1 :])
        try:
            with Journal.open(path) as journal:
                assert [row.fact for row in journal.facts()] == facts
        except JournalError as error:
            complaints.append(str(error))
    assert len(complaints) > 20
    assert not [complaint for complaint in complaints if "\n" in complaint]


@pytest.mark.parametrize("kept", [0.3, 0.8])
def test_a_truncated_file_is_refused_with_a_remedy(path: Path, kept: float) -> None:
    whole = written(path, 200).read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])

    with pytest.raises(JournalError, match=r"damaged.*restore a backup"):
        Journal.open(path)


def test_the_wal_of_another_journal_is_refused_and_not_moved_into_the_file(path: Path, tmp_path: Path) -> None:
    ours = written(path).read_bytes()
    other = tmp_path / "other.db"
    with Journal.open(other) as journal:
        for number in range(50):
            journal.record(tick(number + 7))
        shutil.copy(f"{other}-wal", f"{path}-wal")

    with pytest.raises(JournalError, match="damaged"):
        Journal.open(path)
    assert path.read_bytes() == ours


def test_another_programs_database_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name)")
    connection.close()

    for read_only in (True, False):
        with pytest.raises(JournalError, match="database of another program"):
            Journal.open(path, read_only=read_only)


def test_an_empty_file_is_no_journal_to_read_and_a_new_one_to_write(path: Path) -> None:
    path.touch()

    with pytest.raises(JournalError, match=f"{path}: it is empty; restore a backup if it held anything"):
        Journal.open(path, read_only=True)
    Journal.open(path).close()
    Journal.open(path, read_only=True).close()


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_text("[leader]\n" * 1000)

    with pytest.raises(JournalError, match="not a database"):
        Journal.open(path)


def test_a_journal_of_a_newer_program_is_refused(path: Path) -> None:
    connection = sqlite3.connect(written(path))
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(JournalError, match="a newer copytrader wrote it"):
        Journal.open(path)


# --- Files ---


def test_only_the_owner_can_read_the_journal_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        with Journal.open(path) as journal:
            journal.record(tick())
            names = (path, Path(f"{path}-wal"), Path(f"{path}-shm"))
            assert [stat.S_IMODE(name.stat().st_mode) for name in names] == [0o600] * 3
    finally:
        os.umask(before)


def test_a_journal_that_others_could_read_becomes_private(path: Path) -> None:
    written(path).chmod(0o644)

    Journal.open(path).close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_symlink_leads_to_the_journal_itself(path: Path, tmp_path: Path) -> None:
    written(path)
    link = tmp_path / "link.db"
    link.symlink_to(path)

    with Journal.open(link) as journal:
        assert journal.path == path.resolve()
        assert journal.last_seq == 6


def moved(path: Path) -> None:
    away = path.with_name("old")
    away.mkdir()
    for each in path.parent.glob(f"{path.name}*"):
        each.rename(away / each.name)


def moved_alone(path: Path) -> None:
    path.rename(path.with_name("old.db"))


def deleted(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def wal_deleted(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def shm_deleted(path: Path) -> None:
    Path(f"{path}-shm").unlink()


def replaced(path: Path) -> None:
    """Put a backup in its place as many a tool does it: written beside it, then renamed."""
    backup = path.with_name("backup.db")
    with Journal.open(path, read_only=True) as journal:
        journal.backup(backup)
    backup.replace(path)


def folder_moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


@pytest.mark.parametrize(
    "lose",
    [moved, moved_alone, deleted, wal_deleted, shm_deleted, replaced, folder_moved],
    ids=lambda lose: lose.__name__,
)
def test_a_journal_whose_files_lose_their_place_is_no_good_any_more(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    path = tmp_path / "day" / "copytrader.db"
    path.parent.mkdir()
    with Journal.open(path) as journal:
        journal.require_in_place()
        lose(path)

        with pytest.raises(
            JournalError, match=r"copytrader\.db.* was moved, deleted or replaced.*before the next start"
        ):
            journal.require_in_place()


def test_a_link_that_leads_elsewhere_now_is_a_journal_replaced(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(written(path))
    with Journal.open(link) as journal:
        journal.require_in_place()
        link.unlink()
        link.symlink_to(written(tmp_path / "other.db"))

        with pytest.raises(JournalError, match=r"link\.db was moved, deleted or replaced"):
            journal.require_in_place()


def test_whatever_else_is_done_with_a_journal_leaves_it_in_its_place(path: Path, tmp_path: Path) -> None:
    with Journal.open(written(path)) as journal:
        journal.require_in_place()
        journal.record(seen(note="x" * 100_000))
        journal.checkpoint()
        journal.backup(tmp_path / "backup.db")
        Journal.open(path, read_only=True).close()
        Journal.leave_word(path, Halted(AT))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            other.execute("VACUUM")
        journal.record(tick())
        path.chmod(0o640)

        journal.require_in_place()
        assert journal.verify() == []


def test_a_folder_that_may_not_be_looked_into_tells_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, **_: Any) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(self))

    with Journal.open(path) as journal:
        monkeypatch.setattr(Path, "stat", refused)
        journal.require_in_place()


def test_without_its_wal_a_journal_is_whole_again_once_it_is_closed(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.record(tick())
        wal_deleted(path)
        journal.record(tick(1))

    with Journal.open(path) as journal:
        assert journal.last_seq == 2


def test_a_journal_moved_with_all_its_files_has_everything_when_it_is_back(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.record(tick())
        moved(path)
        journal.record(tick(1))
    for each in (path.parent / "old").iterdir():
        each.rename(path.with_name(each.name))

    with Journal.open(path) as journal:
        assert journal.last_seq == 2


def test_no_journal_is_begun_beside_what_another_had_not_in_its_file_yet(path: Path, tmp_path: Path) -> None:
    """SQLite would delete the WAL, and with it what the file lacks when it is put back."""
    away = tmp_path / "away.db"
    with Journal.open(path) as journal:
        journal.record(tick())
        path.rename(away)

    with pytest.raises(JournalError, match=r"copytrader\.db is not there, but its -wal is; put it back"):
        Journal.open(path)
    away.rename(path)
    with Journal.open(path) as journal:
        assert journal.last_seq == 1


def test_a_file_name_cannot_smuggle_options(tmp_path: Path) -> None:
    name = tmp_path / "a.db?mode=memory#x%20"
    with Journal.open(name) as journal:
        journal.record(tick())

    assert name.exists()
    with pytest.raises(JournalError, match="there is no journal yet"):
        Journal.open(tmp_path / "b.db?mode=rwc", read_only=True)
    assert {each.name for each in tmp_path.iterdir()} == {name.name}


def test_a_directory_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="is no directory"):
        Journal.open(tmp_path / "none" / "a.db")
    with pytest.raises(JournalError, match="is not a file"):
        Journal.open(tmp_path)


def test_a_directory_that_cannot_be_written_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)

    with pytest.raises(JournalError, match="is not writable"):
        Journal.open(path)


def test_a_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_mounts", lambda: f"/dev/vda / ext4 rw 0 0\nnas:/x {path.parent} nfs4 rw 0 0\n")

    with pytest.raises(JournalError, match="network file system"):
        Journal.open(path)


def test_the_innermost_mount_decides_and_its_name_may_hold_a_blank() -> None:
    mounts = "/dev/vda / ext4 rw 0 0\nnas:/x /mnt/my\\040disk cifs rw 0 0\nnas:/y /mnt nfs rw 0 0\n"

    assert files.file_system(Path("/mnt/my disk/a"), mounts) == "cifs"
    assert files.file_system(Path("/mnt/other"), mounts) == "nfs"
    assert files.file_system(Path("/home"), mounts) == "ext4"


def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from copytrader.journal import migrations as steps

    monkeypatch.setattr(steps, "_TRIGGERS", ("CREATE NONSENSE",))
    with pytest.raises(JournalError, match="syntax error"):
        Journal.open(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()

    monkeypatch.undo()
    written(path)


def test_a_journal_of_an_older_schema_gets_the_indexes_of_this_one_and_keeps_its_facts(path: Path) -> None:
    written(path)
    connection = sqlite3.connect(path)
    before = connection.execute("SELECT * FROM facts ORDER BY seq").fetchall()
    made = dict(connection.execute("SELECT name, sql FROM sqlite_master"))
    connection.execute("DROP INDEX facts_by_instrument")
    connection.execute("DROP INDEX facts_by_security")
    connection.execute("CREATE INDEX facts_by_security ON facts (substr(body, 1, 10), kind)")
    connection.execute("DELETE FROM _sqlite_migrations WHERE name LIKE 'm004%'")
    connection.execute("PRAGMA user_version = 3")
    connection.commit()
    connection.close()

    with Journal.open(path) as journal:
        assert journal.query("PRAGMA user_version")[1] == [(schema.VERSION,)]
        assert dict(journal.query("SELECT name, sql FROM sqlite_master")[1]) == made
        assert journal.query("SELECT * FROM facts ORDER BY seq")[1] == before
        assert journal.verify() == []


# --- Readers, backup, checkpoint ---


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM facts",
        "ATTACH '/tmp/x.db' AS x",
        "PRAGMA writable_schema = ON",
        "PRAGMA query_only = OFF",
        "CREATE TEMP TABLE x (y)",
        "VACUUM INTO '/tmp/x.db'",
        "SELECT load_extension('x')",
    ],
)
def test_a_reader_can_only_read(path: Path, sql: str) -> None:
    with Journal.open(written(path), read_only=True) as reader:
        with pytest.raises(JournalError):
            reader.query(sql)
        assert reader.query("SELECT count(*) FROM facts") == (("count(*)",), [(6,)])
        with pytest.raises(JournalError):
            reader.record(tick())


def test_a_reader_sees_what_the_writer_adds_meanwhile(path: Path) -> None:
    with Journal.open(path) as writer, Journal.open(path, read_only=True) as reader:
        writer.record(tick())
        assert reader.last_seq == 1
        assert reader.verify() == []


def test_a_journal_where_nothing_can_be_made_beside_it_is_read_alone(path: Path) -> None:
    """As on a disk that may only be read."""
    written(path)
    Path(f"{path}-wal").symlink_to(path.parent / "no directory" / "wal")

    with Journal.open(path, read_only=True) as reader:
        assert reader.last_seq == 6
        assert reader.verify() == []


def test_a_slow_reader_keeps_no_checkpoint_waiting(path: Path) -> None:
    with Journal.open(path) as writer, Journal.open(path, read_only=True) as reader:
        writer.record_many([(tick(number), [], None) for number in range(2500)])
        rows = reader.facts()
        next(rows)

        assert writer.checkpoint()
        alone = path.with_name("alone.db")
        alone.write_bytes(path.read_bytes())
        with closing(sqlite3.connect(alone)) as moved:
            assert moved.execute("SELECT count(*) FROM facts").fetchone() == (2500,)
        assert len(list(rows)) == 2499


def test_a_checkpoint_does_not_wait_for_a_reader_in_its_way(path: Path) -> None:
    with Journal.open(path) as writer:
        writer.record(tick())
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT * FROM facts").fetchall()
        writer.record(tick())
        assert not writer.checkpoint()
        other.close()
        assert writer.checkpoint()
        assert writer.query("PRAGMA busy_timeout")[1] == [(5000,)]


def test_the_wal_stays_bounded(path: Path) -> None:
    with Journal.open(path) as writer:
        big: list[Step] = [(seen(note="x" * 10_000), [], None)] * 100
        for _ in range(40):
            writer.record_many(big)
            assert Path(f"{path}-wal").stat().st_size < 20 * 1024 * 1024


def test_a_backup_taken_while_writing_is_whole_and_private(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    with Journal.open(path) as writer:
        writer.record(seen(), [place()])
        thread = threading.Thread(target=writer.backup, args=(target,))
        thread.start()
        thread.join()
        writer.record(tick())

    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with Journal.open(target) as copy:
        assert copy.last_seq == 2
        assert copy.verify() == []
    assert not list(tmp_path.glob(".*"))


def test_a_backup_overwrites_nothing(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "notes.txt"
    target.write_text("mine")
    with Journal.open(path) as journal:
        for taken in (target, path):
            with pytest.raises(JournalError, match="exists already"):
                journal.backup(taken)

    assert target.read_text() == "mine"


def test_a_backup_into_a_directory_that_is_not_there_says_so(path: Path, tmp_path: Path) -> None:
    with Journal.open(path) as journal, pytest.raises(JournalError, match="/none is no directory; create it"):
        journal.backup(tmp_path / "none" / "copy.db")


# --- The operator's words ---


def test_a_word_reaches_the_running_writer_and_is_taken_once(path: Path) -> None:
    word = Halted(AT, None, flatten=True, detail="phone")
    with Journal.open(path) as journal:
        left = Journal.leave_word(path, word)
        Journal.leave_word(path, Resumed(AT))
        ((first, event), (second, _)) = journal.words()
        assert (first, event) == (left, word)

        (seq,) = journal.record(event, word=first)
        assert [waiting for waiting, _ in journal.words()] == [second]
        assert journal.query("SELECT taken FROM inbox WHERE id = ?", (first,))[1] == [(seq,)]

        with pytest.raises(JournalError, match="taken already"):
            journal.record(event, word=first)
        assert journal.last_seq == seq


def test_a_word_waits_for_the_next_start(path: Path) -> None:
    Journal.leave_word(written(path), Halted(AT))

    with Journal.open(path) as journal:
        assert [event for _, event in journal.words()] == [Halted(AT)]


def test_a_word_needs_a_journal(path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal yet"):
        Journal.leave_word(path, Halted(AT))
    assert not path.exists()


def test_the_same_facts_give_the_same_hashes() -> None:
    def hashes() -> list[str]:
        with Journal.open(":memory:") as journal:
            journal.record(seen(), cast(Sequence[Any], [place()]))
            journal.record(accepted(), cause=2)
            return [row.hash for row in journal.facts()]

    assert hashes() == hashes()


def test_a_fact_that_no_longer_can_be_read_names_itself() -> None:
    with Journal.open(":memory:") as journal:
        journal.record(tick())
        (row,) = journal.facts()
    with pytest.raises(JournalError, match="fact 1 cannot be read: no such kind of fact: Dreamt"):
        _ = row._replace(kind="Dreamt").fact


def test_every_fact_is_known_to_the_codec() -> None:
    assert set(KINDS) == {cls.__name__ for cls in get_args(Fact)}


def test_a_night_that_the_copier_ran_through_makes_no_last_day() -> None:
    with Journal.open(":memory:") as journal:
        assert journal.last_day() is None
        friday = datetime(2026, 11, 27, 15, 0, tzinfo=IST)
        journal.record(Ticked(friday))
        assert journal.last_day() == friday.date()
        journal.record(Noticed(friday, Level.INFO, "something happened"))
        saturday = friday + timedelta(hours=9)
        for event in (Ticked(saturday), BookRead(saturday, "asha", (), ()), Connected(saturday, "asha")):
            journal.record(event)
        assert journal.last_day() == friday.date()
        journal.record(Stopped(saturday))
        assert journal.last_day() == saturday.date()

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from copytrader.audit import verify
from copytrader.core.facts import Accepted, BookRead, NotFound, OrderSeen, Place, Role, Skip, Source, Unanswered, Verb
from copytrader.core.model import IST, LEADER, Order, OrderStatus, SkipReason
from copytrader.dhan.bodies import Trade
from copytrader.journal import Journal
from copytrader.lock import hold
from tests.audit.journals import CALL, NOON, D, Writer, alter, audit, name, ticket

LATER = NOON + timedelta(hours=1)


def filled(writer: Writer) -> Path:
    for number in range(1, 6):
        writer.copied(number)
    writer.skipped(9)
    return writer.close()


def test_a_journal_as_it_was_written_has_no_findings(writer: Writer) -> None:
    done = audit(filled(writer), "verify")

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.endswith("facts: unaltered, complete, nothing unknown\n")


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (["UPDATE facts SET body = replace(body, '110', '111') WHERE seq = 5"], "fact 5 or its hash was changed"),
        (["DELETE FROM facts WHERE seq = 7"], "fact 7 is missing, so that fact 8 cannot be checked"),
        (
            [
                "UPDATE facts SET seq = 1000 WHERE seq = 6",
                "UPDATE facts SET seq = 6 WHERE seq = 8",
                "UPDATE facts SET seq = 8 WHERE seq = 1000",
            ],
            "facts 6 and 8 have changed places",
        ),
    ],
)
def test_what_somebody_altered_is_named(writer: Writer, statements: list[str], named: str) -> None:
    path = filled(writer)
    alter(path, *statements)

    done = audit(path, "verify")

    assert done.exit_code == 3
    assert f"chain: {named}" in done.stdout


def test_a_dropped_trigger_is_named(writer: Writer) -> None:
    path = filled(writer)
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER facts_are_final")
    connection.close()

    done = audit(path, "verify")

    assert done.exit_code == 3
    assert "chain: facts_are_final is missing" in done.stdout


@pytest.mark.parametrize("left", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_found_and_named(writer: Writer, left: float) -> None:
    path = filled(writer)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * left)])

    done = audit(path, "verify")

    assert done.exit_code == 3
    assert done.stdout.startswith("chain: ")


def test_a_changed_byte_in_the_file_is_found(writer: Writer) -> None:
    path = filled(writer)
    whole = bytearray(path.read_bytes())
    place = bytes(whole).rindex(b"too late")
    whole[place] ^= 0x20
    path.write_bytes(bytes(whole))

    done = audit(path, "verify")

    assert done.exit_code == 3
    assert "or its hash was changed" in done.stdout


def test_a_kept_digest_shows_that_the_end_was_cut_off(writer: Writer) -> None:
    path = filled(writer)
    noted = audit(path, "verify", "--anchor").stdout.splitlines()[-1].split()
    assert noted[0] == "2026-11-23"

    assert audit(path, "verify", "--against", noted[1]).exit_code == 0
    alter(path, "DELETE FROM facts WHERE seq > 20")
    done = audit(path, "verify", "--against", noted[1])

    assert done.exit_code == 3
    assert f"no fact has the digest {noted[1]}" in done.stdout


def test_one_finding_is_counted_as_one(writer: Writer) -> None:
    path = filled(writer)
    alter(path, "DELETE FROM facts WHERE seq = 7")

    assert audit(path, "verify").stderr.startswith("1 finding in ")


def test_findings_are_also_one_document(writer: Writer) -> None:
    path = filled(writer)
    alter(path, "DELETE FROM facts WHERE seq = 7")

    done = audit(path, "verify", "--json", "--anchor")

    found = json.loads(done.stdout)
    assert (done.exit_code, found["ok"]) == (3, False)
    assert found["findings"][0]["check"] == "chain" and found["findings"][0]["seq"] == 8
    assert found["anchor"]["day"] == "2026-11-23"


# --- Complete ------------------------------------------------------------------------------


def findings(writer: Writer) -> list[str]:
    with Journal.open(writer.close(), read_only=True) as journal:
        return [found.what for found in verify.completeness(journal, LATER)]


def test_a_leader_order_without_order_or_reason_is_found_for_each_follower(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "j.db", followers=("asha", "ravi"))
    writer.start()
    writer.copied(1)
    writer.led("7")

    assert findings(writer) == [
        "leader's order 362261123000001: ravi has neither an order nor a reason",
        "leader's order 7: asha has neither an order nor a reason",
        "leader's order 7: ravi has neither an order nor a reason",
    ]


def test_nothing_is_due_for_an_order_that_did_not_reach_the_exchange(writer: Writer) -> None:
    writer.led("7", status="TRANSIT")

    assert findings(writer) == []


def test_nothing_is_due_while_a_process_ran_that_does_not_copy(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "j.db")
    writer.start(copying=False)
    writer.led("7")

    assert findings(writer) == []


def test_a_decision_on_paper_is_none_for_a_live_run(writer: Writer) -> None:
    writer.start(dry_run=True)
    writer.copied(1)
    writer.start()
    writer.led("362261123000001")

    assert findings(writer) == ["leader's order 362261123000001: asha has neither an order nor a reason"]


def test_a_dry_run_knows_what_was_decided_live(writer: Writer) -> None:
    writer.copied(1)
    writer.start(dry_run=True)
    writer.led("362261123000001")

    assert findings(writer) == []


def test_an_order_of_this_moment_may_still_be_decided_upon(writer: Writer) -> None:
    writer.led("7")
    with Journal.open(writer.close(), read_only=True) as journal:
        assert verify.completeness(journal, NOON) == []


@freeze_time(NOON + timedelta(seconds=10))
def test_what_is_young_is_still_under_way_only_while_somebody_writes_the_journal(
    writer: Writer, tmp_path: Path
) -> None:
    writer.led("7")
    path = writer.close()

    with hold(path, [], tmp_path / "state", "follow"):
        young = audit(path, "verify")
        document = json.loads(audit(path, "verify", "--json").stdout)
    done = audit(path, "verify")

    assert young.exit_code == 0
    assert young.stdout == (
        "3 facts: unaltered; 1 too young to judge while the journal is written, ask again in half a minute\n"
    )
    assert (document["ok"], document["too_young"]) == (True, 1)
    assert done.exit_code == 3
    assert "leader's order 7: asha has neither an order nor a reason" in done.stdout


def place(writer: Writer, number: int = 1) -> int:
    return writer.led("7", Place("asha", "7", name(number), ticket(), Role.ENTRY))[1]


def test_a_command_without_an_outcome_is_found(writer: Writer) -> None:
    place(writer)

    assert findings(writer) == [f"place of {name(1)} for asha has no recorded outcome"]


def unanswered(writer: Writer) -> None:
    writer.record(Unanswered(writer.now, "asha", name(1), Verb.PLACE), cause=place(writer))


def test_a_placement_that_was_never_answered_and_never_seen_is_found(writer: Writer) -> None:
    unanswered(writer)
    writer.record(NotFound(writer.now, "asha", name(1)))

    assert findings(writer) == [f"asha: nobody knows whether the order {name(1)} exists"]


def seen_by_look_up(writer: Writer) -> None:
    order = Order("8", ticket(), OrderStatus.PENDING, correlation_id=name(1))
    writer.record(OrderSeen(writer.now, "asha", order, Source.LOOKUP))


def seen_in_a_book(writer: Writer) -> None:
    order = Order("8", ticket(), OrderStatus.PENDING, correlation_id=name(1))
    writer.record(BookRead(writer.now, "asha", (order,)))


def given_up(writer: Writer) -> None:
    writer.record(NotFound(writer.now, "asha", name(1)), Skip("asha", "7", SkipReason.ABSENT, "never found", name(1)))


@pytest.mark.parametrize("settle", [seen_by_look_up, seen_in_a_book, given_up])
def test_a_placement_whose_fate_was_learnt_is_no_finding(writer: Writer, settle: Callable[[Writer], None]) -> None:
    unanswered(writer)
    settle(writer)

    assert findings(writer) == []


def test_a_copy_left_open_though_the_leader_cancelled_is_found(writer: Writer) -> None:
    writer.record(Accepted(writer.now, "asha", name(1), Verb.PLACE, "8"), cause=place(writer))
    writer.led("7", status="CANCELLED")

    assert findings(writer) == ["asha: order 8 is open, though the leader's order 7 is cancelled"]


# --- Against the broker --------------------------------------------------------------------


def book(*orders: Order, account: str = "asha", trades: int | None = None) -> verify.Book:
    done = [
        Trade(str(number), each.order_id, CALL, "X", each.ticket.side, each.ticket.product, quantity, D(110), None)
        for number, each in enumerate(orders)
        if (quantity := each.filled_quantity if trades is None else trades)
    ]
    return verify.Book(account, orders, tuple(done))


def ours(status: str = "TRADED", quantity: int = 75, price: str = "110", order_id: str = "322261123000001") -> Order:
    return Order(order_id, ticket(), OrderStatus(status), NOON, NOON, quantity, D(price), name(1))


@pytest.mark.parametrize(
    ("held", "named"),
    [
        (book(ours()), []),
        (book(), ["asha: the order 322261123000001 (ct1-asha00000000000000001) is not in the broker's book"]),
        (book(ours(quantity=74)), ["asha: the order 322261123000001 has 74 filled, recorded are 75"]),
        (book(ours(price="110.05")), ["asha: the order 322261123000001 filled at 110.05, recorded is 110.0"]),
        (book(ours("CANCELLED")), ["asha: the order 322261123000001 is CANCELLED, recorded is TRADED"]),
        (book(ours("PENDING")), ["asha: the order 322261123000001 is PENDING, recorded is TRADED"]),
        (book(ours(order_id="5")), ["asha: the order 5 bears the name of 322261123000001"]),
        (
            book(ours(), ours(order_id="5")),
            [
                "asha: the order 5 bears the name of 322261123000001",
                "asha: 2 orders bear the one name ct1-asha00000000000000001",
            ],
        ),
        (
            book(ours(), trades=50),
            ["asha: order 322261123000001 has 75 filled in the order book, 50 in the trade book"],
        ),
        (
            book(ours(), Order("6", ticket(), OrderStatus.PENDING, correlation_id="ct1-unknown")),
            ["asha: the order 6 bears our name ct1-unknown, and the journal has no decision for it"],
        ),
        (book(ours(), Order("6", ticket(), OrderStatus.PENDING, correlation_id="mine")), []),
    ],
)
def test_the_broker_s_book_is_held_against_the_journal(writer: Writer, held: verify.Book, named: list[str]) -> None:
    writer.copied(1)

    with Journal.open(writer.close(), read_only=True) as journal:
        found = verify.against_broker(journal, [held], NOON.astimezone(IST).date())

    assert [each.what for each in found] == named


def test_the_leader_s_book_is_held_against_the_journal(writer: Writer) -> None:
    writer.copied(1)
    known = Order("362261123000001", ticket(150), OrderStatus.TRADED, NOON, NOON, 150, D(110))
    fewer = Order("362261123000001", ticket(150), OrderStatus.TRADED, NOON, NOON, 75, D(110))
    missed = Order("5", ticket(150), OrderStatus.CANCELLED, NOON, NOON)

    with Journal.open(writer.close(), read_only=True) as journal:
        agreeing = verify.against_broker(journal, [book(known, account=LEADER)], NOON.date())
        found = verify.against_broker(journal, [book(fewer, missed, account=LEADER)], NOON.date())

    assert agreeing == []
    assert [each.what for each in found] == [
        "leader: the order 362261123000001 has 75 filled, recorded are 150",
        "leader: the order 5 (CANCELLED) was never seen",
    ]


def test_a_copy_on_paper_is_not_taken_for_the_live_one_of_its_name(writer: Writer) -> None:
    writer.start(dry_run=True)
    writer.copied(1, "120")
    writer.start()
    writer.copied(1, "110")

    with Journal.open(writer.close(), read_only=True) as journal:
        assert verify.against_broker(journal, [book(ours(), trades=75)], NOON.date()) == []

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from copytrader.core.facts import InstrumentRead, OrderSeen, Skip, Source
from copytrader.core.model import Instrument, Order, OrderStatus, RefusalClass, SkipReason
from tests.audit.journals import CALL, NOON, Writer, audit, name, ticket


def told(writer: Writer, order: str) -> str:
    done = audit(writer.close(), "explain", order)
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("order", ["362261123000001", "322261123000001", name(1)])
def test_each_of_an_order_s_names_tells_the_same_story(writer: Writer, order: str) -> None:
    writer.copied(1, "110.15", times=True)

    text = told(writer, order)

    assert text.startswith("Leader's order 362261123000001: BUY 150 NIFTY-29Dec2026-25000-CE LIMIT 110\n")
    for said in (
        "asha: copied with 75 units, 75 filled, traded",
        "given     sizing ratio 0.5",
        "given     limits max_order_lots 20",
        "lot 75, tick 0.05",
        "position from copying before it: +0",
        "the order opens 150 units: 1.0 lots exactly, 1 lots due, carry 0 on BUY",
        f"place BUY 75 NIFTY-29Dec2026-25000-CE LIMIT 110 as {name(1)}",
        "quantity 75, price 110",
        "place accepted: order 322261123000001, TRANSIT, 24.0 ms after its event",
        "decided 1.0 ms, durable 2.0 ms, sent 1.0 ms, answered 20.0 ms",
        "filled 75 at 110.15 (leader 110), +0.15 against the leader",
    ):
        assert said in text


def test_each_step_names_the_fact_it_follows_from(writer: Writer) -> None:
    writer.copied(1)
    path = writer.close()

    found = json.loads(audit(path, "explain", name(1), "--json").stdout)

    steps = [step for chain in found["followers"] for step in chain["steps"]]
    by_seq = {step["seq"]: step for step in [*found["leader"], *steps]}
    answer = next(step for step in steps if step["what"] == "answer")
    command = by_seq[answer["cause"]]
    assert command["what"] == "request" or command["what"] == "decision"
    assert by_seq[command["cause"]]["what"] == "seen"


def test_a_multiplier_that_nobody_told_is_not_taken_for_one(writer: Writer) -> None:
    writer.record(
        InstrumentRead(writer.now, Instrument(CALL, "CRUDEOIL-18Dec2026-FUT", 75, Decimal(1), multiplier=None))
    )
    writer.copied(1)

    assert "lot 75, tick 1, multiplier not known" in told(writer, "362261123000001")


def test_the_position_before_an_order_is_what_was_copied_until_then(writer: Writer) -> None:
    writer.copied(1)
    writer.copied(2)

    assert "position from copying before it: +75" in told(writer, name(2))


def test_an_order_of_one_follower_is_explained_for_this_one_alone(writer: Writer) -> None:
    writer.copied(1)
    writer.led("362261123000001", Skip("ravi", "362261123000001", SkipReason.HALTED, "copying is halted"))
    path = writer.close()

    assert "ravi" not in audit(path, "explain", name(1)).stdout
    assert "ravi: not copied, HALTED" in audit(path, "explain", "362261123000001").stdout


@pytest.mark.parametrize("reason", list(SkipReason))
def test_every_skip_says_what_would_have_had_to_be_different(writer: Writer, reason: SkipReason) -> None:
    writer.led("7", Skip("asha", "7", reason, "12 lots, the limit is 10"))

    text = told(writer, "7")

    assert f"asha: not copied, {reason}: 12 lots, the limit is 10" in text
    assert text.rstrip().splitlines()[-1].strip().startswith(("It would have been copied ", "Nothing would have"))


def test_a_limit_is_named_with_its_key_and_its_value(writer: Writer) -> None:
    writer.led("7", Skip("asha", "7", SkipReason.LIMIT_ORDER_LOTS, "24 lots, the limit is 20"))

    assert "followers.asha.limits.max_order_lots, which was 20, been higher" in told(writer, "7")


def test_a_share_below_one_lot_is_worked_out(writer: Writer) -> None:
    from tests.audit.journals import ticket

    writer.led("7", Skip("asha", "7", SkipReason.BELOW_ONE_LOT, "0.5"), terms=ticket(75))

    text = told(writer, "7")

    assert "followers.asha.sizing.ratio been at least 1 without any carry" in text
    assert "or the leader's order had 2 lots" in text


def test_a_refusal_is_explained_in_plain_words(writer: Writer) -> None:
    skip = Skip("asha", "7", SkipReason.INSUFFICIENT_MARGIN, "add funds", name(1), RefusalClass.MARGIN)
    writer.led("7", skip)

    assert "The account has too little money for this order" in told(writer, "7")


def test_an_order_that_nobody_knows_is_said(writer: Writer) -> None:
    done = audit(writer.close(), "explain", "404")

    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "no fact is about the order 404\n")


def test_an_order_that_is_the_person_s_own_is_told_as_that(writer: Writer) -> None:
    for status, filled in ((OrderStatus.PENDING, 0), (OrderStatus.TRADED, 75)):
        own = Order("900", ticket(), status, NOON, NOON, filled)
        writer.record(OrderSeen(writer.now, "asha", own, Source.STREAM))
    path = writer.close()

    head, empty, who, *steps = audit(path, "explain", "900").stdout.splitlines()

    assert head == "No order of the leader's stands behind it: BUY 75 NIFTY-29Dec2026-25000-CE LIMIT 110"
    assert (empty, who) == ("", "asha: an order of its own, not a copy")
    assert [("PENDING" in step, "TRADED" in step) for step in steps] == [(True, False), (False, True)]
    assert json.loads(audit(path, "explain", "900", "--json").stdout)["leader_order_id"] == ""


def copied_on_paper_then_live(writer: Writer, on_paper: dict[int, str]) -> None:
    """A dry run copies orders, each at its price; then the second order is copied live."""
    writer.start(dry_run=True)
    for number, price in on_paper.items():
        writer.copied(number, price)
    writer.start()
    writer.copied(2, "111")


def test_what_is_on_paper_is_left_out_of_a_live_order_s_story(writer: Writer) -> None:
    copied_on_paper_then_live(writer, {1: "120", 2: "121"})

    text = told(writer, "362261123000002")

    assert text.startswith("Leader's order")
    assert "position from copying before it: +0" in text
    assert "asha: copied with 75 units, 75 filled" in text
    assert "121" not in text
    assert "Left out, for it was on paper: DRY261123000002;" in text


def test_an_order_s_name_on_paper_tells_the_dry_run(writer: Writer) -> None:
    writer.copied(1)
    copied_on_paper_then_live(writer, {2: "121"})

    text = told(writer, "DRY261123000002")

    assert text.startswith("On paper: a dry run, nothing of it was sent.\n")
    assert "position from copying before it: +75" in text
    assert "filled 75 at 121" in text
    assert "111" not in text


def test_an_order_that_only_a_dry_run_copied_is_told_as_on_paper(writer: Writer) -> None:
    writer.start(dry_run=True)
    writer.copied(2, "121")
    writer.start()

    assert told(writer, "362261123000002").startswith("On paper")


def test_a_changed_copy_is_told_with_the_terms_in_force_and_what_changed(writer: Writer) -> None:
    writer.resting(1, 75)
    writer.changed(1, ticket(150))
    writer.changed(1, ticket(225, price="111"))

    text = told(writer, name(1))

    assert text.startswith("Leader's order 362261123000001: BUY 450 NIFTY-29Dec2026-25000-CE LIMIT 111\n")
    assert "asha: copied with 225 units, 0 filled" in text
    assert "quantity due changed): quantity from 75 to 150\n" in text
    assert "quantity due changed): quantity from 150 to 225, price from 110 to 111\n" in text

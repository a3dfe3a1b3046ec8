from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from copytrader.core.copies import Key, Slice
from copytrader.core.facts import (
    Alert,
    Fact,
    Filled,
    Level,
    NotSent,
    Place,
    Refused,
    Role,
    Sized,
    Skip,
    Throttled,
    Verb,
)
from copytrader.core.model import (
    IST,
    Follower,
    Limits,
    OrderType,
    Product,
    RefusalClass,
    Security,
    Side,
    Sizing,
    SkipReason,
    Ticket,
    Validity,
)
from copytrader.core.state import Account, State
from copytrader.narrate import left_on_paper, left_open
from copytrader.summary import Tally

AT = datetime(2026, 11, 24, 10, 30, tzinfo=IST)
TICKET = Ticket(Security("NSE_FNO", "40001"), Side.BUY, Product.MARGIN, OrderType.LIMIT, Validity.DAY, 75, Decimal(95))


def placed(account: str, order: str, name: str = "") -> Place:
    return Place(account, order, name or f"ct1-{account}-{order}", TICKET, Role.ENTRY)


def tally(*facts: Fact, at: datetime = AT) -> Tally:
    counted = Tally()
    for fact in facts:
        counted.add(fact, at)
    return counted


def state(*names: str) -> State:
    followers = [Follower(name, name, Sizing(), Limits()) for name in names]
    return State(accounts={each.name: Account(each) for each in followers})


def test_a_day_is_one_paragraph() -> None:
    day = tally(
        placed("asha", "1"),
        placed("asha", "1"),  # placed anew with the same name: one copy
        placed("ravi", "1"),
        Filled("leader", "1", "L1", "", 150, 150, Decimal(95)),
        Filled("asha", "1", "A1", "ct1-asha-1", 75, 75, Decimal(95)),
        Filled("asha", "1", "A1", "ct1-asha-1", 75, 150, Decimal(95)),
        Skip("ravi", "2", SkipReason.STALE, "x"),
        Skip("asha", "2", SkipReason.STALE, "x"),
        Skip("asha", "3", SkipReason.FILTERED, "x"),
        Skip("asha", "4", SkipReason.STALE, "x"),
        Alert(Level.WARNING, "w"),
        Alert(Level.CRITICAL, "c"),
    )

    assert day.paragraph(state("asha", "ravi")) == (
        "Tue 24 Nov: 4 orders of the leader. asha: 1 copy, 1 with fills, 3 not copied (2 STALE, 1 FILTERED). "
        "ravi: 1 copy, 0 with fills, 1 not copied (1 STALE). 2 alerts, 1 critical. "
        "Nothing is open and nothing is held from copying."
    )


def test_a_try_that_the_broker_did_not_take_is_no_copy() -> None:
    day = tally(
        placed("asha", "1", "ct1-a"),
        NotSent(AT, "asha", "ct1-a", Verb.PLACE),
        placed("asha", "1", "ct1-b"),
        Throttled(AT, "asha", "ct1-b", Verb.PLACE),
        placed("asha", "1", "ct1-c"),
        Refused(AT, "asha", "ct1-c", Verb.PLACE, RefusalClass.MARGIN, "DH-906", "RMS: no funds"),
        placed("asha", "1", "ct1-d"),
        Throttled(AT, "asha", "ct1-d", Verb.CANCEL),
    )
    assert "asha: 1 copy, 0 with fills" in day.paragraph(state("asha"))


def test_a_skip_that_is_judged_anew_counts_once_with_its_last_reason() -> None:
    day = tally(Skip("asha", "2", SkipReason.TOKEN, "x"), Skip("asha", "2", SkipReason.STALE, "x"))
    assert "1 not copied (1 STALE)" in day.paragraph(state("asha"))


def test_a_new_day_begins_at_nought() -> None:
    day = tally(placed("asha", "1"), Alert(Level.WARNING, "w"))
    day.add(Sized("asha", "9", 1, 75, Decimal(1), Decimal(0), Side.BUY), AT + timedelta(days=1))

    assert day.paragraph(state("asha")).startswith("Wed 25 Nov: 1 order of the leader. asha: 0 copies")


def test_a_day_without_anything_is_empty() -> None:
    day = tally(Filled("leader", "1", "L1", "", 150, 150, Decimal(95)))
    assert day.is_empty
    assert not tally(Alert(Level.INFO, "x")).is_empty


def resting(order_id: str, *, dry_run: bool) -> State:
    known = state("asha")
    known.dry_run = dry_run
    key = Key(TICKET.security, TICKET.product)
    piece = Slice("asha", "1", key, None, "ct1-asha-1", TICKET, Role.ENTRY, AT, order_id=order_id)
    known.accounts["asha"].open["ct1-asha-1"] = piece
    known.share(known.holding(key), "asha").copied = 75
    return known


def test_what_a_dry_run_had_is_on_paper() -> None:
    day = Tally(on_paper=True)
    day.add(placed("asha", "1"), AT)

    told = day.paragraph(resting("DRY1", dry_run=True))

    assert told.startswith("Tue 24 Nov, on paper: 1 order of the leader. ")
    assert told.endswith(
        "On paper: asha: open: BUY 75 NSE_FNO 40001 LIMIT 95 (order DRY1); "
        "asha: holds +75 NSE_FNO 40001 MARGIN from copying."
    )
    assert "Left" not in told


def test_an_order_that_a_live_run_left_at_the_broker_is_not_on_paper() -> None:
    known = resting("3221", dry_run=True)

    assert list(left_open(known)) == ["asha: open: BUY 75 NSE_FNO 40001 LIMIT 95 (order 3221)"]
    assert list(left_on_paper(known)) == ["asha: holds +75 NSE_FNO 40001 MARGIN from copying"]


def test_nothing_of_a_live_run_is_on_paper() -> None:
    assert len(list(left_open(resting("3221", dry_run=False)))) == 2
    assert list(left_on_paper(resting("3221", dry_run=False))) == []

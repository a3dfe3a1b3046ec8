"""The example's day with other rules, against figures worked out by hand.

The leader: 4 lots of the call bought at 107 and sold by a stop loss at 111.75; 3 lots of the put given up;
1 and 1 lot of the put bought at 96 and 94 and sold at 99; 10 lots rejected for margin; 2 lots of the call
bought at 116 and kept.  A lot is 75, a tick 0.05.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from copytrader.core.facts import Accepted, BookRead, Event, Filled, OrderSeen, Place, Source, Started
from copytrader.core.model import (
    LEADER,
    Desk,
    Funds,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Product,
    Security,
    Side,
    Ticket,
    Validity,
)
from copytrader.core.state import State
from copytrader.failure import Failure
from copytrader.journal import Journal
from copytrader.paper import FillModel
from copytrader.replay.play import RECORDED, WHAT_IF, Track, play_recording
from copytrader.replay.recording import Window, record_of
from copytrader.replay.summary import Played
from copytrader.replay.what_if import WhatIf, copied
from tests.replay.support import Row, account, decided, desk, example, journal_of, outcomes, played, state_of, write

D = Decimal
CALL = Security("NSE_FNO", "40001")
HALF, ONE = "asha:ratio=0.5", "asha:ratio=1"


def test_half_the_leader_s_size() -> None:
    document = played(desk(HALF))

    assert outcomes(document, "asha", "as_configured") == [
        (150, 150, None),
        (150, 150, None),
        (75, 0, None),
        (0, 0, "BELOW_ONE_LOT"),
        (75, 75, None),
        (0, 0, "LEADER_DONE"),
        (75, 75, None),
        (75, 75, None),
    ]
    asha = account(document, "asha")
    assert asha["realized"] == 150 * (D("111.75") - 107) + 75 * (99 - 94)
    assert asha["traded_value"] == 150 * 107 + 150 * D("111.75") + 75 * 94 + 75 * 99 + 75 * 116
    assert asha["lots"] == 7
    assert asha["largest_exposure"] == asha["largest_margin"] == 150 * 107
    assert asha["skips"] == {"BELOW_ONE_LOT": 1, "LEADER_DONE": 1}


def test_twice_the_ratio_differs_where_lots_are_rounded_off() -> None:
    document = played(desk(HALF), desk(ONE))

    assert document["changed_rules"] == ["followers.asha.sizing.ratio: 0.5 -> 1"]
    assert outcomes(document, "asha", "what_if")[3] == (75, 75, None)
    assert account(document, "asha", 1)["realized"] == 300 * (D("111.75") - 107) + 75 * (99 - 96) + 75 * (99 - 94)
    assert account(document, "leader", 1) == account(document, "leader", 0)
    differing = [row["leader_order_id"][-1] for row in document["orders"] if row["differs"]]
    assert differing == ["1", "2", "3", "4", "7", "8"]
    assert document["differing"] == 6


def test_a_limit_holds_entries_back_and_so_their_exits() -> None:
    document = played(desk(ONE), desk("asha:ratio=1,limits.max_order_lots=3"))

    assert outcomes(document, "asha", "what_if")[:2] == [(0, 0, "LIMIT_ORDER_LOTS"), (0, 0, "NOTHING_TO_EXIT")]
    assert account(document, "asha", 1)["realized"] == 75 * (99 - 96) + 75 * (99 - 94)


def test_slippage_costs_its_ticks_on_each_unit() -> None:
    document = played(desk(ONE), desk(ONE), FillModel(slippage_ticks=2))

    lost = account(document, "asha", 0)["realized"] - account(document, "asha", 1)["realized"]
    assert lost == (300 + 150) * 2 * 2 * D("0.05")
    assert account(document, "leader", 1)["realized"] == account(document, "leader", 0)["realized"]


def test_refusals_by_chance_are_the_same_for_the_same_seed() -> None:
    def refused(seed: int) -> Row:
        return account(played(desk(ONE), desk(ONE), FillModel(reject_rate=0.5, seed=seed)), "asha", 1)

    assert refused(1) == refused(1)
    assert any(refused(seed) != refused(1) for seed in range(2, 6))
    assert account(played(desk(ONE), desk(ONE), FillModel(reject_rate=1)), "asha", 1)["lots"] == 0


def test_a_slow_market_answers_and_fills_later() -> None:
    day = WhatIf(State(), desk(ONE), FillModel(latency=timedelta(seconds=30)))
    moments = [moment for event in example() for moment in day.feed(event)] + list(day.end())

    placed = next(moment.event.at for moment in moments if any(isinstance(each, Place) for each in moment.decisions))
    taken = next(moment.event.at for moment in moments if isinstance(moment.event, Accepted))
    filled = next(
        moment.event.at
        for moment in moments
        if any(isinstance(each, Filled) and each.account == "asha" for each in moment.decisions)
    )
    assert taken == filled == placed + timedelta(seconds=30)
    assert copied(day.state, "asha") == {next(key for key in day.state.holdings if key.security == CALL): 150}


def recorded(path: Path, other: Desk, model: FillModel | None = None) -> Row:
    with Journal.open(path, read_only=True) as journal:
        recording = record_of(journal, Window())
        assert recording.started is not None
        first = Track(RECORDED, recording.started.desk, None)
        second = Track(WHAT_IF, other, model or FillModel())
        for _ in play_recording(recording, first, second):
            pass
        return Played(str(path), [first, second], []).document()


def test_a_journal_s_day_with_its_own_rules_comes_out_as_recorded(tmp_path: Path) -> None:
    rules = desk(HALF, "ravi:mode=lots,lots=1")
    document = recorded(journal_of(tmp_path / "j.db", rules), rules)

    assert document["differing"] == 0
    first, second = document["results"]
    assert first["accounts"] == second["accounts"]


def test_a_follower_who_was_not_there_gets_the_day_from_its_beginning(tmp_path: Path) -> None:
    document = recorded(journal_of(tmp_path / "j.db", desk(HALF)), desk(HALF, "ravi:ratio=1"))

    assert outcomes(document, "ravi", "recorded") == []
    assert account(document, "ravi", 1)["lots"] == account(document, "leader", 1)["lots"]


def test_what_is_held_at_the_broker_is_the_follower_s_own_and_what_was_copied_here(tmp_path: Path) -> None:
    """The recorded net of a follower holds what was copied then; with other rules something else was copied."""
    at_the_end = example()[-1].at + timedelta(minutes=5)
    steps = decided(example(), desk(HALF))
    own = Position(CALL, Product.MARGIN, 75 + 30, D(116))
    book = BookRead(at_the_end, "asha", (), (own,), Funds(D(1), D(1)))
    path = write(tmp_path / "j.db", [*steps, (book, ())])

    with Journal.open(path, read_only=True) as journal:
        recording = record_of(journal, Window())
        second = Track(WHAT_IF, desk(ONE), FillModel())
        last = list(play_recording(recording, Track(RECORDED, desk(HALF), None), second))[-1].moment.state

    (share,) = [holding.shares["asha"] for key, holding in last.holdings.items() if key.security == CALL]
    assert (share.copied, share.net) == (150, 150 + 30)


def test_the_follower_s_own_orders_stay_and_ours_do_not() -> None:
    day = WhatIf(State(), desk(ONE), FillModel())
    shadow = State()
    ticket = Ticket(CALL, Side.BUY, Product.MARGIN, OrderType.LIMIT, Validity.DAY, 75, D(100))
    events = example()
    for event in events[:8]:
        list(day.feed(event, shadow))
    at = events[7].at
    own = OrderSeen(at, "asha", Order("77", ticket, OrderStatus.PENDING), Source.STREAM)
    ours = replace(own, order=replace(own.order, order_id="78", correlation_id="ct1-abc"))

    assert [moment.event for moment in day.feed(own, shadow)] == [own]
    assert list(day.feed(ours, shadow)) == []


def test_the_engine_s_timers_ring_on_the_clock_of_the_events() -> None:
    """An order whose terms are never told is skipped when it has become too old, though no event comes."""
    events = example()
    late = [
        event for event in events if not (isinstance(event, OrderSeen) and event.order.status != OrderStatus.TRADED)
    ]
    document = [event for event, _ in decided(late, desk(ONE))]

    assert any(type(event).__name__ == "Ticked" for event in document)


def the_next_day() -> Iterator[Event]:
    """The leader sells at 120 what he kept overnight."""
    began = example()[0]
    assert isinstance(began, Started)
    at = began.at + timedelta(days=1)
    held = Position(CALL, Product.MARGIN, 150, D(116))
    yield replace(began, at=at)
    yield BookRead(at, "asha", (), (replace(held, net_quantity=75),))
    yield BookRead(at, LEADER, (), (held,))
    ticket = Ticket(CALL, Side.SELL, Product.MARGIN, OrderType.LIMIT, Validity.DAY, 150, D(120))
    yield OrderSeen(at, LEADER, Order("901", ticket, OrderStatus.PENDING, at, at), Source.STREAM)
    yield OrderSeen(at, LEADER, Order("901", ticket, OrderStatus.TRADED, at, at, 150, D(120)), Source.STREAM)


def test_what_was_kept_overnight_is_realised_from_its_average_of_the_day_before(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "j.db", desk(HALF))
    write(path, decided(the_next_day(), desk(HALF), state_of(path)))

    with Journal.open(path, read_only=True) as journal:
        recording = record_of(journal, Window(since=example()[0].at + timedelta(days=1)))
        track, other = Track(RECORDED, desk(HALF), None), Track(WHAT_IF, desk(HALF), FillModel(slippage_ticks=1))
        for _ in play_recording(recording, track, other):
            pass

    results = [row["realized"] for each in (track, other) for row in each.tally.accounts() if row["account"] == "asha"]
    assert results == [75 * (120 - 116), 75 * (D("119.95") - 116)]
    (leader,) = [row for row in track.tally.accounts() if row["account"] == "leader"]
    assert leader["realized"] == 150 * (120 - 116)


def test_frames_without_a_client_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"Data": {"status": "Pending"}, "logged_at": "2026-11-23 10:00:00"}\n')
    with pytest.raises(Failure, match="no frame names its client"):
        example(path)

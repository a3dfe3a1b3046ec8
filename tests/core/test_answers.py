"""Answers that prove little or nothing, and what the engine makes of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from random import Random

import pytest

from copytrader.core.facts import (
    Accepted,
    Adopted,
    BookRead,
    Cancel,
    Command,
    Event,
    FixOrdered,
    FrameRefused,
    Halted,
    InstrumentRead,
    Level,
    Modify,
    NotFound,
    NotSent,
    OrderSeen,
    Place,
    Refused,
    Resumed,
    Source,
    Started,
    Throttled,
    Ticked,
    TokenRefused,
    TokenRenewed,
    Unanswered,
    Verb,
)
from copytrader.core.model import (
    LEADER,
    CopyRules,
    Desk,
    LateExits,
    Limits,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Product,
    RefusalClass,
    Side,
    SkipReason,
    Validity,
)
from copytrader.core.names import correlation_id
from tests.core.play import NIFTY, D, Held, Play, follower, quiet, ticket

Answer = Callable[[Command], Event | None]


def unanswered(play: Play, *verbs: type[Command]) -> Answer:
    """Lose these requests: nobody knows what became of them, and nothing did."""
    names = {Place: Verb.PLACE, Modify: Verb.MODIFY, Cancel: Verb.CANCEL}

    def answer(command: Command) -> Event | None:
        if isinstance(command, verbs):
            return Unanswered(play.now, command.account, command.correlation_id, names[type(command)])
        return None

    return answer


def refused(play: Play, refusal: RefusalClass, *verbs: type[Command]) -> Answer:
    names = {Place: Verb.PLACE, Modify: Verb.MODIFY, Cancel: Verb.CANCEL}

    def answer(command: Command) -> Event | None:
        if isinstance(command, verbs):
            verb = names[type(command)]
            return Refused(play.now, command.account, command.correlation_id, verb, refusal, "DH-906", "no")
        return None

    return answer


def not_sent(play: Play) -> Answer:
    return _modified(lambda each: NotSent(play.now, each.account, each.correlation_id, Verb.MODIFY, "no route"))


def throttled(play: Play) -> Answer:
    return _modified(lambda each: Throttled(play.now, each.account, each.correlation_id, Verb.MODIFY, "429"))


def in_transit(play: Play) -> Answer:
    return refused(play, RefusalClass.TRANSIT, Modify)


def _modified(told: Answer) -> Answer:
    return lambda command: told(command) if isinstance(command, Modify) else None


def places(play: Play) -> list[Place]:
    return [each for each in play.decisions if isinstance(each, Place)]


def modifies(play: Play) -> list[Modify]:
    return [each for each in play.decisions if isinstance(each, Modify)]


def accepted(play: Play, command: Command, held: Held) -> Event:
    verb = Verb.MODIFY if isinstance(command, Modify) else Verb.CANCEL
    return Accepted(play.now, held.account, held.correlation_id, verb, held.order_id)


def lose(play: Play, seconds: int = 125) -> None:
    """Look an unanswered order up until it is given up."""
    end = play.now + timedelta(seconds=seconds)
    while play.now < end:
        play.waits(20)
        for piece in play.state.unknowns():
            play.feed(NotFound(play.now, piece.follower, piece.correlation_id))


# --- A placing without an answer --------------------------------------------------------


@pytest.mark.parametrize("source", list(Source))
def test_an_order_that_was_placed_without_an_answer_is_found_and_kept(source: Source) -> None:
    play = Play()
    play.answer = unanswered(play, Place)
    play.places("L1")
    play.answer = None
    held = play.takes(places(play)[0])

    play.feed(OrderSeen(play.now, "asha", held.seen(), source))
    play.modifies("L1", price=D(101))

    assert len(places(play)) == 1
    assert held.ticket.price == D(101)
    assert not play.state.unknowns()


def test_an_order_that_never_arrived_is_given_up_after_two_minutes_and_not_sent_again() -> None:
    play = Play()
    play.answer = unanswered(play, Place)
    play.places("L1")
    play.answer = None
    (piece,) = play.state.unknowns()

    for _ in range(7):
        play.waits(17)
        play.feed(NotFound(play.now, "asha", piece.correlation_id))
    assert not play.skips("ABSENT")
    lose(play)
    play.modifies("L1", price=D(101))

    assert [each.reason for each in play.skips()] == ["ABSENT"]
    assert len(places(play)) == 1
    (alert,) = play.alerts()
    assert "asha: BUY 75 NIFTY-Dec2026-24000-PE was sent at" in alert.text


def test_one_reading_that_does_not_know_it_proves_nothing_however_late() -> None:
    play = Play()
    play.answer = unanswered(play, Place)
    play.places("L1")
    (piece,) = play.state.unknowns()

    play.waits(300)
    play.feed(NotFound(play.now, "asha", piece.correlation_id))

    assert not play.skips("ABSENT")


def test_an_order_that_turns_up_after_it_was_given_up_is_cancelled() -> None:
    play = Play()
    play.answer = unanswered(play, Place)
    play.places("L1")
    play.answer = None
    lose(play)
    held = play.takes(places(play)[0])

    play.feed(BookRead(play.now, "asha", (held.seen(),)))

    assert held.status is OrderStatus.CANCELLED
    assert len(places(play)) == 1


def test_a_late_order_that_filled_is_closed_again() -> None:
    play = Play()
    play.answer = unanswered(play, Place)
    play.trades("L1", 4)
    play.answer = None
    lose(play)
    play.trades("L2", -4)
    held = play.takes(places(play)[0])
    play.fills_follower(held, held.ticket.quantity)
    play.drain()
    play.waits(3)
    play.fills()

    assert play.lots() == 0


def test_an_unanswered_exit_is_given_up_and_then_swept_for_what_is_still_held() -> None:
    play = Play()
    play.trades("L1", 4)
    play.answer = unanswered(play, Place)
    play.trades("L2", -4)
    play.answer = None
    assert len(places(play)) == 2
    lose(play)
    play.waits(3)
    play.fills()

    assert play.lots() == 0
    assert len({each.correlation_id for each in places(play)}) == len(places(play)) == 3


def test_the_leader_cancels_while_the_placing_is_unknown_and_the_cancel_follows_when_it_is_found() -> None:
    play = Play()
    play.answer = unanswered(play, Place)
    play.places("L1")
    play.answer = None
    play.cancels("L1")
    held = play.takes(places(play)[0])

    play.feed(OrderSeen(play.now, "asha", held.seen(), Source.LOOKUP))

    assert held.status is OrderStatus.CANCELLED


def test_the_order_is_seen_before_its_placing_is_answered() -> None:
    play = Play()
    play.answer = lambda command: quiet(play) if isinstance(command, Place) else None
    play.places("L1")
    play.answer = None
    held = play.takes(places(play)[0])
    play.feed(OrderSeen(play.now, "asha", held.seen(), Source.STREAM))
    play.feed(Unanswered(play.now, "asha", held.correlation_id, Verb.PLACE))

    assert not play.state.unknowns()
    play.cancels("L1")
    assert held.status is OrderStatus.CANCELLED


def seen_before_its_answer(play: Play) -> Held:
    """The placing hangs; the stream shows that the order works."""
    held: list[Held] = []

    def hang(command: Command) -> Event | None:
        if isinstance(command, Place):
            held.append(play.takes(command))
            return quiet(play)
        return None

    play.answer = hang
    play.places("L1")
    play.feed(OrderSeen(play.now, "asha", held[0].seen(), Source.STREAM))
    return held[0]


def test_a_cancel_does_not_wait_for_the_answer_to_a_placing_that_is_seen_to_work() -> None:
    play = Play()
    held = seen_before_its_answer(play)

    play.cancels("L1")

    assert held.status is OrderStatus.CANCELLED
    play.feed(Accepted(play.now, "asha", held.correlation_id, Verb.PLACE, held.order_id))
    play.waits(10)
    assert len(play.of()) == 1


@pytest.mark.parametrize("late", [Refused, NotSent, Throttled, Unanswered])
def test_an_order_that_is_seen_to_work_is_there_whatever_the_placing_is_answered(late: type) -> None:
    play = Play()
    held = seen_before_its_answer(play)
    if late is Refused:
        play.feed(Refused(play.now, "asha", held.correlation_id, Verb.PLACE, RefusalClass.OTHER, "DH-905", "no"))
    else:
        play.feed(late(play.now, "asha", held.correlation_id, Verb.PLACE))
    play.waits(10)
    assert len(play.of()) == 1

    play.cancels("L1")

    assert held.status is OrderStatus.CANCELLED


def test_an_order_with_our_name_but_other_terms_is_not_taken_for_ours() -> None:
    play = Play()
    play.answer = unanswered(play, Place)
    play.places("L1")
    play.answer = None
    held = play.takes(replace(places(play)[0], ticket=ticket(Side.SELL, 75)))

    play.feed(OrderSeen(play.now, "asha", held.seen(), Source.LOOKUP))

    assert play.state.unknowns()
    assert [each.text for each in play.alerts() if "differs" in each.text]


def answered_with(play: Play, order_id: str) -> Held:
    """Place the leader's order; the answer names another order than the one that came about."""
    real: list[Held] = []

    def answer(command: Command) -> Event | None:
        if not isinstance(command, Place):
            return None
        real.append(play.takes(command))
        return Accepted(play.now, command.account, command.correlation_id, Verb.PLACE, order_id)

    play.answer = answer
    play.places("L1")
    play.answer = None
    return real[0]


@pytest.mark.parametrize("source", [Source.STREAM, Source.BOOK, Source.LOOKUP])
def test_the_order_that_bears_our_name_outranks_the_id_in_an_answer(source: Source) -> None:
    play = Play()
    held = answered_with(play, "X99")
    play.feed(OrderSeen(play.now, "asha", held.seen(), source))
    play.leader_fills("L1")
    play.fills()
    assert play.lots() == 1

    play.trades("L2", -2)

    assert play.lots() == 0


def test_a_fill_of_ours_that_is_told_without_a_name_before_its_answer_is_no_trade_by_hand() -> None:
    play = Play()
    play.trades("L1", 4)
    play.reads_book("asha")

    def answer(command: Command) -> Event | None:
        if not isinstance(command, Place):
            return None
        held = play.takes(command)
        held.status, held.filled, held.average = OrderStatus.TRADED, held.ticket.quantity, D(100)
        play.positions["asha"] -= held.filled
        play.queue.append(OrderSeen(play.now, "asha", replace(held.seen(), correlation_id=""), Source.STREAM))
        return Accepted(play.now, command.account, command.correlation_id, Verb.PLACE, held.order_id)

    play.answer = answer
    play.trades("L2", -2, fills=False)
    play.reads_book("asha")
    play.answer = None
    assert play.lots() == 1
    play.trades("L3", -2)
    play.waits(5)
    play.fills()

    assert play.lots() == 0


def by_hand(play: Play, order_id: str = "M1") -> Held:
    """An order of the person's own works at the broker."""
    held = Held(order_id, "asha", "", ticket(Side.SELL, 75, "150"), updated=play.now)
    play.orders[order_id] = held
    return held


@pytest.mark.parametrize("is_known", [True, False], ids=["seen before", "seen after"])
def test_an_order_of_the_person_s_own_that_an_answer_names_is_never_touched(is_known: bool) -> None:
    play = Play()
    own = by_hand(play)
    if is_known:
        play.reads_book("asha")
    held = answered_with(play, own.order_id)
    if not is_known:
        play.feed(OrderSeen(play.now, "asha", own.seen(), Source.STREAM))
    assert play.state.unknowns()
    play.feed(OrderSeen(play.now, "asha", held.seen(), Source.LOOKUP))
    play.cancels("L1")
    play.waits(60)

    assert own.is_open
    assert held.status is OrderStatus.CANCELLED


# --- A modification, a cancel without an answer -------------------------------------------


def test_an_unanswered_modification_is_sent_again_until_it_is_answered() -> None:
    play = Play()
    play.places("L1", ticket(quantity=300))
    play.answer = unanswered(play, Modify)
    play.modifies("L1", price=D(101))
    play.answer = None

    play.waits(40)

    assert play.of()[0].ticket.price == D(101)
    assert len(modifies(play)) == 2


@pytest.mark.parametrize("lost", [not_sent, throttled, in_transit])
def test_a_new_price_that_never_left_is_none_of_the_attempts(lost: Callable[[Play], Answer]) -> None:
    """The exit at market rests; it is priced anew three times, whatever did not reach the broker between."""
    play = Play()
    play.trades("L1", 4)
    play.trades("L2", -4, fills=False)
    play.waits(6)
    (leaving,) = [each for each in play.of() if each.is_open]
    assert leaving.ticket.price == 99
    play.answer = lost(play)
    play.waits(15)
    play.answer = None
    play.places("L3", ticket(quantity=75, price="80"), last_price=D(90))
    play.waits(60)

    assert leaving.ticket.price < 90


def stuck(play: Play) -> list[tuple[Level, str]]:
    return [(each.level, each.text) for each in play.alerts() if each.key.startswith("stuck-")]


@pytest.mark.parametrize("exits", [False, True])
def test_a_modification_that_gets_no_answer_again_and_again_is_said_once_and_its_end_too(exits: bool) -> None:
    play = Play(followers=(follower(ratio="1"),))
    if exits:
        play.trades("L0", 2)
    play.places("L1", ticket(Side.SELL if exits else Side.BUY))
    play.answer = unanswered(play, Modify)
    play.modifies("L1", price=D(101))
    play.waits(1)
    assert not stuck(play)
    play.waits(200)
    [(level, text)] = stuck(play)
    assert level is (Level.CRITICAL if exits else Level.WARNING)
    assert "could not be changed in 3 attempts" in text

    play.answer = None
    play.waits(40)

    assert [level for level, _ in stuck(play)] == [level, Level.INFO]


@pytest.mark.parametrize("lost", [unanswered, lambda play, verb: refused(play, RefusalClass.OTHER, verb)])
def test_a_cancel_that_fails_again_and_again_is_a_critical_alert(lost: Callable[..., Answer]) -> None:
    play = Play()
    play.places("L1")
    play.answer = lost(play, Cancel)
    play.cancels("L1")
    play.waits(100)

    [(level, text)] = stuck(play)
    assert level is Level.CRITICAL
    assert "could not be cancelled in 3 attempts" in text


def test_an_unanswered_modification_that_took_effect_is_not_taken_for_a_hand_s() -> None:
    play = Play()
    play.places("L1", ticket(quantity=300))
    play.answer = unanswered(play, Modify)
    play.modifies("L1", price=D(101))
    play.answer = None
    (held,) = play.of()
    held.ticket, held.status, held.updated = modifies(play)[0].ticket, OrderStatus.PENDING, play.now
    play.reads_book("asha")
    play.waits(40)

    assert not play.skips("DETACHED")
    assert len(modifies(play)) == 1


def test_a_modification_lost_and_then_refused_leaves_the_terms_in_doubt_and_the_order_is_made_anew() -> None:
    """Of two attempts to make it smaller one is lost and one refused: it may have its old size still."""
    play = Play()
    play.places("L1", ticket(quantity=450))
    play.answer = unanswered(play, Modify)
    play.modifies("L1", quantity=150)
    play.answer = refused(play, RefusalClass.OTHER, Modify)
    play.waits(5)
    play.answer = None
    play.waits(5)

    assert [(each.ticket.quantity, each.is_open) for each in play.of()] == [(225, False), (75, True)]


@pytest.mark.parametrize("exits", [False, True])
def test_what_was_refused_is_the_first_to_go_where_the_leader_wants_less(exits: bool) -> None:
    """Of two slices one was refused; then the leader halves its order: the slice that works is all that is due."""
    play = Play(followers=(follower(ratio="1"),))
    order = ticket(quantity=3600)
    if exits:
        play.trades("L0", 48)
        order = ticket(Side.SELL, 3600, "89", order_type=OrderType.STOP_LOSS, trigger_price=D(90))
    before, number = len(play.of()), itertools.count(1)

    def second(command: Command) -> Event | None:
        lost = isinstance(command, Place) and next(number) == 2
        return refused(play, RefusalClass.MARGIN, Place)(command) if lost else None

    play.answer = second
    play.places("L1", order)
    play.answer = None
    play.modifies("L1", quantity=1800)
    play.waits(5)

    [held] = play.of()[before:]
    assert (held.is_open, held.ticket.quantity) == (True, 1800)


def test_a_modification_refused_for_a_reason_that_is_not_clear_is_tried_thrice_and_said_then() -> None:
    play = Play()
    play.places("L1")
    play.answer = refused(play, RefusalClass.OTHER, Modify)
    play.modifies("L1", price=D(101))
    play.waits(60)
    assert [each.text for each in play.alerts()] == ["asha: the modification of F1 was refused: no"]
    play.modifies("L1", price=D(102))
    play.waits(60)

    assert [int(each.ticket.price) for each in play.decisions if isinstance(each, Modify)] == [101] * 3 + [102] * 3
    assert len(play.alerts()) == 2


def test_a_modification_refused_once_is_made_good() -> None:
    play = Play()
    play.places("L1")
    play.answer = refused(play, RefusalClass.OTHER, Modify)
    play.modifies("L1", price=D(101))
    play.answer = None
    play.waits(5)

    assert play.of()[0].ticket.price == 101
    assert play.alerts() == []


@pytest.mark.parametrize("refusal", [RefusalClass.PRICE_BAND, RefusalClass.MARGIN, RefusalClass.TICK])
def test_a_modification_refused_for_a_reason_that_stays_is_not_tried_again(refusal: RefusalClass) -> None:
    play = Play()
    play.places("L1")
    play.answer = refused(play, refusal, Modify)
    play.modifies("L1", price=D(101))
    play.answer = None
    play.waits(60)

    assert sum(isinstance(each, Modify) for each in play.decisions) == 1
    assert len(play.alerts()) == 1


@pytest.mark.parametrize("answered_first", [True, False])
def test_a_modification_that_the_exchange_refuses_later_is_not_tried_again(answered_first: bool) -> None:
    """The broker takes it; the frame that says no bears the terms that never applied."""
    play = Play()
    play.places("L1")
    (held,) = play.of()
    play.now += timedelta(seconds=2)

    def taken(command: Command) -> Event | None:
        return quiet(play) if isinstance(command, Modify) else None

    play.answer = taken
    play.modifies("L1", price=D(101))
    modified = next(each for each in play.decisions if isinstance(each, Modify))
    accepted = Accepted(play.now, "asha", held.correlation_id, Verb.MODIFY, held.order_id)
    frame = replace(held.seen(), ticket=modified.ticket, status=OrderStatus.MOD_REJECTED, note="no money")
    told = OrderSeen(play.now, "asha", frame, Source.STREAM)
    for event in (accepted, told) if answered_first else (told, accepted):
        play.feed(event)
    play.now += timedelta(seconds=3)
    held.updated = play.now
    play.reads_book("asha")
    play.waits(60)

    assert sum(isinstance(each, Modify) for each in play.decisions) == 1
    assert [each.text for each in play.alerts() if "was refused: no money" in each.text]
    play.answer = None
    play.modifies("L1", price=D(102))
    assert held.ticket.price == 102


def test_a_late_frame_of_an_earlier_refusal_does_not_hide_the_terms_that_are_in_force() -> None:
    """The terms were refused once, asked for again later, and taken; then the frame of the refusal comes once more."""
    play = Play()
    play.places("L1")
    (held,) = play.of()
    play.now += timedelta(seconds=2)
    play.answer = refused(play, RefusalClass.OTHER, Modify)
    play.modifies("L1", price=D(101))
    play.answer = None
    play.modifies("L1", price=D(102))
    play.modifies("L1", price=D(101))
    assert held.ticket.price == 101
    play.now += timedelta(seconds=2)
    frame = replace(held.seen(), status=OrderStatus.MOD_REJECTED, note="no money")
    play.feed(OrderSeen(play.now, "asha", frame, Source.STREAM))
    assert "asha" in play.state.ask_books
    play.reads_book("asha")

    play.modifies("L1", price=D(102))

    assert held.ticket.price == 102


def test_a_modification_that_the_book_goes_on_not_showing_was_refused() -> None:
    """It was accepted, the exchange refused it, and the frame that said so was lost."""
    play = Play()
    play.places("L1")
    (held,) = play.of()
    play.answer = lambda command: accepted(play, command, held)
    play.modifies("L1", price=D(101))
    play.answer = None
    for _ in range(3):
        play.waits(5)
        play.reads_book("asha")

    assert ["refused" in each.text for each in play.alerts()] == [True]
    assert [each.ticket.price for each in play.decisions if isinstance(each, Modify)] == [101]
    play.modifies("L1", price=D(102))
    assert held.ticket.price == 102


def test_a_modification_that_the_book_shows_late_was_not_refused() -> None:
    play = Play()
    play.places("L1")
    (held,) = play.of()
    play.answer = lambda command: accepted(play, command, held)
    play.modifies("L1", price=D(101))
    play.answer = None
    play.waits(6)
    play.reads_book("asha")
    held.ticket, held.updated = replace(held.ticket, price=D(101)), play.now
    play.reads_book("asha")

    assert not play.skips()
    play.modifies("L1", price=D(102))
    assert held.ticket.price == 102


def test_a_refused_modification_of_the_price_is_not_tried_again() -> None:
    play = Play()
    play.places("L1")
    play.answer = refused(play, RefusalClass.PRICE_BAND, Modify)
    play.modifies("L1", price=D(900))
    play.waits(60)

    assert len(modifies(play)) == 1
    assert play.of()[0].is_open


@pytest.mark.parametrize("refusal", [RefusalClass.TRANSIT, RefusalClass.OTHER])
def test_a_refused_cancel_is_repeated_until_the_broker_reports_the_end(refusal: RefusalClass) -> None:
    play = Play()
    play.places("L1")
    play.answer = refused(play, refusal, Cancel)
    play.cancels("L1")
    play.waits(100)
    assert play.of()[0].is_open
    play.answer = None
    play.waits(31)

    assert play.of()[0].status is OrderStatus.CANCELLED
    tries = [each for each in play.decisions if isinstance(each, Cancel)]
    assert 5 <= len(tries) <= 12


def test_an_accepted_cancel_is_not_the_end() -> None:
    play = Play()
    play.places("L1")
    name = places(play)[0].correlation_id
    play.answer = lambda command: Accepted(play.now, "asha", name, Verb.CANCEL, "F1")
    play.cancels("L1")
    play.answer = None
    play.waits(5)

    assert play.of()[0].status is OrderStatus.CANCELLED


def test_a_modification_down_to_what_has_filled_does_not_end_an_order_that_the_broker_keeps() -> None:
    """The modification was refused: the order still has its old quantity."""
    play = Play()
    play.places("L1", ticket(quantity=300))
    (held,) = play.of()
    play.answer = lambda command: quiet(play) if isinstance(command, Modify) else None
    play.modifies("L1", quantity=150)
    play.answer = None
    play.fills_follower(held, 75)
    play.drain()
    play.feed(Refused(play.now, "asha", held.correlation_id, Verb.MODIFY, RefusalClass.OTHER, "DH-906", "no"))
    play.waits(5)

    assert held.status is OrderStatus.CANCELLED


# --- Requests that provably had no effect ------------------------------------------------------


@pytest.mark.parametrize("kind", [NotSent, Throttled])
def test_what_never_reached_the_broker_is_sent_once_more_under_another_name(
    kind: type[NotSent | Throttled],
) -> None:
    play = Play()
    play.answer = lambda command: kind(play.now, "asha", command.correlation_id, Verb.PLACE)
    play.places("L1")
    play.answer = None
    play.waits(5)

    assert len(play.of()) == 1
    assert len({each.correlation_id for each in places(play)}) == 2


def test_an_entry_that_never_reaches_the_broker_is_given_up() -> None:
    play = Play()
    play.answer = lambda command: NotSent(play.now, "asha", command.correlation_id, Verb.PLACE)
    play.places("L1")
    play.waits(600)

    assert len(places(play)) == 6
    assert [each.reason for each in play.skips()] == ["RATE_BUDGET"]


def test_a_market_entry_that_could_not_be_sent_in_time_is_stale() -> None:
    play = Play()
    play.answer = lambda command: NotSent(play.now, "asha", command.correlation_id, Verb.PLACE)
    play.trades("L1", 4)
    play.waits(60)

    assert [each.reason for each in play.skips()] == ["STALE"]


def test_an_exit_that_cannot_be_sent_for_minutes_goes_when_it_can() -> None:
    """No connection for five minutes: sweeps go on trying, with longer and longer pauses."""
    play = Play()
    play.trades("L1", 4)
    play.answer = lambda command: NotSent(play.now, "asha", command.correlation_id, Verb.PLACE)
    play.trades("L2", -4)
    play.waits(300)
    tried = len(places(play))
    play.answer = None
    play.waits(65)
    play.fills()

    assert play.lots() == 0
    assert tried <= 25


def test_a_refused_exit_is_swept_at_most_three_times() -> None:
    play = Play()
    play.trades("L1", 4)
    play.answer = refused(play, RefusalClass.MARGIN, Place)
    play.trades("L2", -4)
    play.waits(600)

    assert len([each for each in places(play) if each.sweep]) == 3
    assert len(places(play)) == 5
    assert [each for each in play.alerts() if "close it by hand" in each.text]


def test_a_refused_entry_is_never_sent_again() -> None:
    play = Play()
    play.answer = refused(play, RefusalClass.MARGIN, Place)
    play.places("L1", ticket(quantity=300))
    play.answer = None
    play.modifies("L1", price=D(101), quantity=450)
    play.waits(60)

    assert len(places(play)) == 1


def test_exits_of_two_instruments_that_are_refused_are_two_alerts_that_name_them() -> None:
    play = Play()
    play.trades("L1", 4)
    play.answer = refused(play, RefusalClass.OTHER, Place)
    play.trades("L2", -4)

    (said,) = (each for each in play.alerts() if "refused by the broker" in each.text)
    assert "exit SELL 150 NIFTY-" in said.text
    assert said.key.endswith(play.of()[0].ticket.security.security_id + " INTRADAY")


# --- Tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [RefusalClass.TOKEN, RefusalClass.IP])
def test_without_a_token_entries_are_skipped_and_exits_wait_for_one(refusal: RefusalClass) -> None:
    play = Play()
    play.trades("L1", 4)
    play.answer = refused(play, refusal, Place, Modify, Cancel)
    play.trades("L2", -4)
    play.trades("L3", 2)
    play.waits(120)
    sent = len(places(play))
    assert "TOKEN" in {each.reason for each in play.skips()}
    assert play.lots() == 2
    play.answer = None

    play.feed(TokenRenewed(play.now, "asha"))
    play.waits(5)
    play.fills()

    assert sent == 2
    assert play.lots() == 0


def test_a_stop_loss_refused_for_the_token_rests_as_soon_as_it_is_renewed() -> None:
    play = Play()
    play.trades("L1", 4)
    play.answer = refused(play, RefusalClass.TOKEN, Place)
    play.places("STOP", ticket(Side.SELL, 300, "90", order_type=OrderType.STOP_LOSS, trigger_price=D(91)))
    play.waits(60)
    sent = len(places(play))
    play.answer = None
    play.feed(TokenRenewed(play.now, "asha"))
    play.waits(1)

    assert sent == 2
    assert [each.ticket.quantity for each in play.of() if each.is_open] == [150]


def test_a_resting_entry_skipped_for_the_token_is_placed_when_it_is_renewed() -> None:
    play = Play()
    play.feed(Refused(play.now, "asha", "", Verb.PLACE, RefusalClass.TOKEN, "DH-901", "no"))
    play.state.accounts["asha"].blocked = RefusalClass.TOKEN
    play.places("L1")
    assert [each.reason for each in play.skips()] == ["TOKEN"]

    play.feed(TokenRenewed(play.now, "asha"))

    assert [each.ticket.quantity for each in play.of()] == [75]


@pytest.mark.parametrize("refusal", [RefusalClass.TOKEN, RefusalClass.IP])
def test_each_exit_that_waits_for_a_token_is_said(refusal: RefusalClass) -> None:
    play = Play()
    play.trades("L1", 4)
    play.feed(TokenRefused(play.now, "asha", refusal, "no"))
    play.decisions.clear()
    play.trades("L2", -2)
    play.places("STOP", ticket(Side.SELL, 150, "90", order_type=OrderType.STOP_LOSS, trigger_price=D(91)))
    play.waits(60)

    remedy = "copytrader login asha" if refusal is RefusalClass.TOKEN else "followers.asha.proxy"
    said = [each.text for each in play.alerts() if each.level is Level.CRITICAL and remedy in each.text]
    assert ["SELL 75 (the leader's order L2) waits" in text for text in said] == [True, False]
    assert ["SELL 75 (the leader's order STOP) waits" in text for text in said] == [False, True]


def test_what_is_not_copied_to_one_whose_token_is_refused_from_the_start_has_its_reason() -> None:
    """Its book was never read in this run: what it holds from copying is known from before."""
    play = Play()
    play.trades("L1", 4)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.feed(TokenRefused(play.now, "asha", RefusalClass.TOKEN, "no"))
    play.reads_leader_book()
    play.decisions.clear()
    play.trades("L2", -4)
    play.trades("L3", 2)

    assert [(each.leader_order_id, each.reason) for each in play.skips()] == [("L3", "TOKEN")]
    assert [text for each in play.alerts() if "SELL 150 (the leader's order L2) waits" in (text := each.text)] != []
    play.feed(TokenRenewed(play.now, "asha"))
    assert play.of()[1:] == [], "nothing goes before its book is read"
    play.reads_book("asha")
    play.waits(5)
    play.fills()
    assert play.lots() == 0


def test_the_token_of_one_who_is_not_served_is_not_the_leader_s() -> None:
    play = Play()
    play.feed(TokenRefused(play.now, "zoya", RefusalClass.TOKEN, "no"))
    play.places("L1")

    assert [each.ticket.quantity for each in play.of()] == [75]
    assert play.alerts() == []


def test_cancels_go_at_once_when_the_token_is_renewed() -> None:
    play = Play()
    play.places("L1")
    play.answer = refused(play, RefusalClass.TOKEN, Cancel)
    play.cancels("L1")
    play.waits(30)
    play.answer = None
    play.feed(TokenRenewed(play.now, "asha"))

    assert play.of()[0].status is OrderStatus.CANCELLED


def test_one_follower_s_token_is_no_other_s() -> None:
    play = Play(followers=(follower("asha"), follower("bela")))
    play.state.accounts["asha"].blocked = RefusalClass.TOKEN
    play.places("L1")

    assert [each.account for each in play.orders.values()] == ["bela"]


# --- The operator ----------------------------------------------------------------------------------


def test_halted_open_copies_are_cancelled_entries_stop_and_exits_go_on() -> None:
    play = Play()
    play.trades("L1", 4)
    play.places("L2")
    play.feed(Halted(play.now))
    assert [each.status for each in play.of()] == [OrderStatus.TRADED, OrderStatus.CANCELLED]
    assert [each.why for each in play.decisions if isinstance(each, Cancel)] == ["copying is halted"]
    play.places("L3")
    play.trades("L4", -4)

    assert play.lots() == 0
    assert [each.reason for each in play.skips("HALTED")] == ["HALTED"]
    play.feed(Resumed(play.now))
    play.places("L5")
    assert play.of()[-1].is_open


def test_an_entry_that_waited_for_its_turn_does_not_go_once_halted_nor_when_copying_goes_on() -> None:
    play = Play()
    for number in range(12):
        play.places(f"L{number}")
    sent = len(play.of())
    play.feed(Halted(play.now))
    play.waits(30)
    play.feed(Resumed(play.now))
    play.waits(30)

    assert len(play.of()) == sent < 12
    assert play.skips("HALTED")


@pytest.mark.parametrize("restarts", [False, True])
def test_a_market_entry_that_waited_for_its_turn_while_the_machine_slept_does_not_go(restarts: bool) -> None:
    play = Play(followers=(follower(ratio="1"),))
    for number in range(12):
        play.trades(f"L{number}", 1, fills=False)
    sent = len(play.of())
    assert sent < 12
    play.fills()
    play.now += timedelta(hours=2)
    if restarts:
        play.starts()
    else:
        play.feed(Ticked(play.now))
    play.waits(60)

    assert len(play.of()) == sent
    assert {skip.reason for skip in play.skips()} == {SkipReason.STALE}


def test_an_entry_whose_placing_never_left_while_copying_was_halted_has_a_reason() -> None:
    play = Play()
    play.answer = lambda command: quiet(play) if isinstance(command, Place) else None
    play.places("L1", ticket(quantity=300))
    play.feed(Halted(play.now))
    play.feed(NotSent(play.now, "asha", places(play)[0].correlation_id, Verb.PLACE))
    play.waits(30)

    assert not play.of()
    assert [each.reason for each in play.skips()] == ["HALTED"]


@pytest.mark.parametrize("late_exits", LateExits)
def test_a_market_exit_on_its_way_is_not_held_back_by_a_halt(late_exits: LateExits) -> None:
    play = Play(rules=CopyRules(enforce_hours=False, late_exits=late_exits))
    play.trades("L1", 4)
    play.trades("L2", -4, fills=False)
    play.feed(Halted(play.now))
    play.fills()

    assert play.lots() == 0
    assert not [each for each in play.decisions if isinstance(each, Cancel)]


def test_a_resting_exit_that_a_halt_took_away_comes_back_with_the_copying() -> None:
    play = Play()
    play.trades("L1", 4)
    play.places("L2", ticket(Side.SELL, 300, price="120"))
    play.feed(Halted(play.now))
    play.waits(2)
    assert not [each for each in play.of() if each.is_open]
    play.feed(Resumed(play.now))
    play.waits(5)

    assert [(each.ticket.quantity, each.ticket.price) for each in play.of() if each.is_open] == [(150, D(120))]
    play.leader_fills("L2")
    play.fills()
    assert play.lots() == 0


def test_what_a_plan_made_up_for_is_not_copied_again_when_the_leader_s_order_changes() -> None:
    play = Play(followers=(follower(limits=Limits(max_order_lots=4)),))
    play.places("L1", ticket(quantity=750))
    play.leader_fills("L1", 300)
    play.feed(FixOrdered(play.now, "asha", "p1", (ticket(price="0", order_type=OrderType.MARKET),), (), 0, play.now))
    play.fills()
    assert play.lots() == 2
    play.now += timedelta(seconds=60)
    play.modifies("L1", quantity=600)
    play.leader_fills("L1")
    play.waits(20)
    play.fills()

    assert play.lots() == 2


def test_flatten_closes_what_was_copied_and_what_fills_while_it_is_cancelled() -> None:
    play = Play()
    play.places("L1", ticket(quantity=300))
    (held,) = play.of()
    play.answer = lambda command: quiet(play) if isinstance(command, Cancel) else None
    play.feed(Halted(play.now, flatten=True))
    play.answer = None
    play.fills_follower(held, 150)
    play.drain()
    play.waits(5)
    play.fills()

    assert play.lots() == 0
    assert len(play.of()) == 2


def test_a_halt_after_a_flatten_takes_nothing_of_it_back() -> None:
    """The exit could not be sent at once; then somebody halts once more, to be sure."""
    play = Play()
    play.trades("L1", 4)
    play.answer = lambda command: NotSent(play.now, "asha", command.correlation_id, Verb.PLACE, "no connection")
    play.feed(Halted(play.now, flatten=True))
    play.feed(Halted(play.now))
    play.answer = None
    play.waits(10)
    play.fills()

    assert play.lots() == 0


@pytest.mark.parametrize("side", Side)
def test_what_is_flattened_above_the_freeze_quantity_is_sliced(side: Side) -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 60 * side.sign)
    before = len(play.of())
    play.feed(Halted(play.now, flatten=True))
    play.waits(2)

    assert [each.ticket.quantity for each in play.of()[before:]] == [1800, 1800, 900]
    play.fills()
    assert play.lots() == 0


def test_an_order_changed_by_hand_is_left_alone_except_to_cancel_it() -> None:
    play = Play()
    play.places("L1", ticket(quantity=300))
    (held,) = play.of()
    play.now += timedelta(seconds=2)
    held.ticket, held.updated = replace(held.ticket, price=D(77)), play.now
    play.reads_book("asha")
    play.modifies("L1", price=D(102))

    assert [each.reason for each in play.skips()] == ["DETACHED"]
    assert held.ticket.price == D(77)
    play.cancels("L1")
    assert held.status is OrderStatus.CANCELLED


def test_an_order_cancelled_by_hand_is_not_placed_again() -> None:
    play = Play()
    play.places("L1")
    play.dies(play.of()[0])
    play.modifies("L1", price=D(102))

    assert [each.reason for each in play.skips()] == ["DETACHED"]
    assert len(play.of()) == 1


def test_adopted_orders_are_cancelled_and_their_fills_are_copied_positions() -> None:
    play = Play(held_before=300)
    held = Held("F900", "asha", "ct1-aaaaaaaaaaaaaaaaaaaaa", ticket(quantity=150), OrderStatus.PART_TRADED, 75, D(100))
    play.orders["F900"] = held
    play.positions["asha"] = 75
    play.feed(BookRead(play.now, "asha", (held.seen(),), (Position(NIFTY, Product.INTRADAY, 75),)))
    assert held.is_open

    play.feed(Adopted(play.now, "asha", (held.seen(),)))

    assert held.status is OrderStatus.CANCELLED
    share = next(iter(play.state.holdings.values())).shares["asha"]
    assert (share.copied, share.net, share.due) == (75, 75, Fraction(75))


def test_a_sweep_takes_no_name_that_an_adopted_order_bears() -> None:
    """The journal is lost: the numbers of the sweeps begin anew, the broker's book has the old ones."""
    first = Play()
    first.trades("L1", 4)
    first.trades("L2", -4, fills=False)
    first.rejects(first.of()[1])
    first.waits(2)
    sweep = next(each for each in first.of() if each.is_open)
    first.dies(sweep)
    play = Play(begin=False)
    play.orders, play.numbered = first.orders, first.numbered
    play.leader, play.positions, play.now = first.leader, first.positions, first.now
    play.starts()
    play.feed(Adopted(play.now, "asha", tuple(each.seen() for each in play.of())))

    play.feed(Halted(play.now, flatten=True))
    play.waits(2)
    play.fills()

    assert play.lots() == 0
    names = [each.correlation_id for each in play.of()]
    assert len(set(names)) == len(names)


# --- Positions and days -------------------------------------------------------------------------------


def test_what_the_person_sold_by_hand_is_not_sold_again() -> None:
    play = Play()
    play.trades("L1", 4)
    play.positions["asha"] = 0
    play.reads_book("asha")
    play.trades("L2", 2)
    assert play.positions["asha"] == 75
    play.waits(10)
    assert play.positions["asha"] == 75
    play.trades("L3", -6)
    play.waits(10)
    assert play.positions["asha"] == 0
    play.trades("L4", 4)
    play.waits(10)

    assert play.positions["asha"] == 150


@pytest.mark.parametrize("sold", [-1, -2])
def test_what_the_person_bought_before_the_positions_were_read_is_not_sold(sold: int) -> None:
    """It sells of the copy and buys as much of its own, and no reading falls between."""
    play = Play()
    play.trades("L1", 4)
    play.trades_by_hand(sold, is_read=False)
    play.trades_by_hand(-sold)
    play.trades("L2", -4)
    play.waits(60)

    assert play.lots() == -sold


def test_what_the_person_bought_after_closing_the_copy_by_hand_is_not_sold() -> None:
    play = Play()
    play.trades("L1", 4)
    play.trades_by_hand(-2)
    play.trades_by_hand(1)

    play.trades("L2", -4)
    play.waits(10)
    play.fills()

    assert play.lots() == 1


def test_what_the_person_sold_of_its_own_takes_nothing_from_the_copy() -> None:
    play = Play()
    play.trades_by_hand(2)
    play.trades("L1", 4)
    play.trades_by_hand(-2)

    play.trades("L2", -4)

    assert play.lots() == 0


def test_a_copy_that_was_partly_closed_by_hand_is_closed_as_far_as_it_is_left() -> None:
    play = Play()
    play.trades("L1", 8)
    play.trades_by_hand(-1)
    play.trades_by_hand(2)

    play.trades("L2", -8)

    assert play.lots() == 2


def test_positions_that_are_older_than_a_fill_of_ours_take_nothing_from_the_copy() -> None:
    play = Play()
    play.trades("L1", 4)
    play.trades_by_hand(-1)
    play.trades("L2", 4)
    play.feed(BookRead(play.now, "asha", (), (Position(NIFTY, Product.INTRADAY, 75),)))
    play.reads_book("asha")

    play.trades("L3", -8)

    assert play.lots() == 0


def test_a_reading_that_is_short_for_once_takes_nothing_from_the_copy_when_the_person_sold_its_own() -> None:
    play = Play()
    play.trades_by_hand(2)
    play.trades("L1", 4)
    play.trades_by_hand(-2)
    play.feed(BookRead(play.now, "asha", (), ()))
    play.reads_book("asha")

    play.trades("L2", -4)

    assert play.lots() == 0


def test_a_sweep_that_rests_is_cancelled_when_the_person_has_closed_what_it_was_to_close() -> None:
    play = Play()
    play.trades("L1", 4)
    play.feed(Halted(play.now, flatten=True))
    play.waits(2)
    sweep = next(each for each in play.of() if each.is_open)
    play.trades_by_hand(-2)
    play.waits(10)

    assert sweep.status is OrderStatus.CANCELLED
    assert play.lots() == 0


def test_a_sweep_that_rests_is_cancelled_when_the_broker_shows_nothing_to_close() -> None:
    """Nobody has told what became of the position: no order of the person's was seen."""
    play = Play()
    play.trades("L1", 4)
    play.feed(Halted(play.now, flatten=True))
    play.waits(2)
    sweep = next(each for each in play.of() if each.is_open)
    play.positions["asha"] = 0
    play.reads_book("asha")
    play.waits(10)

    assert sweep.status is OrderStatus.CANCELLED
    assert not [each for each in play.of() if each.is_open]


def test_a_sweep_made_smaller_again_and_again_is_not_given_up() -> None:
    play = Play()
    play.trades("L1", 10)
    play.feed(Halted(play.now, flatten=True))
    play.waits(2)
    for lots in (4, 3, 2, 1):
        play.trades_by_hand(-1)
        play.waits(90)
        assert sum(each.ticket.quantity for each in play.of() if each.is_open) == lots * 75
    play.fills()
    assert play.lots() == 0


def test_an_entry_fills_no_more_than_the_leader_has_left_to_open() -> None:
    """Half of it has filled at the leader, who sold that half again: the follower, late with all of it, takes half."""
    play = Play()
    play.places("L1", ticket(quantity=300))
    play.leader_fills("L1", 150)
    (entry,) = play.of()
    play.places("L2", ticket(Side.SELL, 150, "0", order_type=OrderType.MARKET))
    play.leader_fills("L2")

    assert (entry.ticket.quantity, entry.is_open) == (75, True)
    assert len(play.of()) == 1


def overtaken(play: Play) -> Held:
    """Let the leader get in and out; the follower's exit fills before anything is known of its entry's fill."""
    play.places("L1")
    play.leader_fills("L1")
    play.places("L2", ticket(Side.SELL))
    entry, leaving = play.of()
    play.fills_follower(leaving, 75)
    play.drain()
    return entry


def test_an_exit_that_fills_before_the_news_of_its_entry_has_not_turned_the_position() -> None:
    play = Play()
    entry = overtaken(play)
    assert "asha" in play.state.ask_books
    entry.filled, entry.status = 75, OrderStatus.TRADED
    play.positions["asha"] += 75
    play.leader_fills("L2")
    sent = len(play.of())
    play.waits(2)
    play.reads_book("asha")
    play.waits(5)

    assert len(play.of()) == sent
    assert play.lots() == 0


def test_an_exit_that_really_came_before_its_entry_is_bought_back_once_the_entry_is_gone() -> None:
    play = Play()
    entry = overtaken(play)
    play.leader_fills("L2")
    play.waits(5)
    play.fills()

    assert entry.status is OrderStatus.CANCELLED
    assert play.lots() == 0


def test_a_position_that_an_unknown_fill_explains_is_not_closed_by_the_leader_s_next_order() -> None:
    """The short entry and the stop that turns it fill together; the news of the stop comes first."""
    play = Play()
    play.places("L1", ticket(Side.SELL))
    play.leader_fills("L1")
    play.places("L2", ticket(quantity=300, price="106", order_type=OrderType.STOP_LOSS, trigger_price=D(105)))
    entry, stop = play.of()
    play.fills_follower(stop, 150)
    play.drain()
    play.fills_follower(entry, 75)
    late = play.queue.pop()
    play.answer = lambda command: quiet(play) if isinstance(command, Cancel) else None
    play.leader_fills("L2")
    play.places("L3", ticket(Side.SELL, price="107"))

    assert play.of()[-1].ticket.quantity == 75
    play.feed(late)
    play.leader_fills("L3")
    play.waits(5)
    play.fills()
    assert play.lots() == 0


def test_an_exit_does_not_cover_an_entry_that_an_earlier_one_may_use_up() -> None:
    """The leader turned round; nobody has told yet whether the cancel of the first entry came in time."""
    play = Play()
    play.places("L1", ticket(Side.SELL))
    play.leader_fills("L1")
    play.answer = lambda command: quiet(play) if isinstance(command, Cancel) else None
    play.places("L2", ticket(Side.BUY, 450, "0", order_type=OrderType.MARKET))
    play.leader_fills("L2")
    play.places("L3", ticket(Side.SELL, 300, "107"))
    first, entry, leaving = play.of()

    assert (first.ticket.quantity, entry.ticket.quantity, leaving.ticket.quantity) == (75, 150, 75)
    play.dies(first)
    assert leaving.ticket.quantity == 150
    play.fills()
    assert play.lots() == 0


def test_what_fills_beyond_a_smaller_size_asked_for_was_filled_as_it_stood_before() -> None:
    """A stop through zero is made smaller since its entry is not known to have filled; both had filled before that."""
    play = Play()
    play.places("L1", ticket(quantity=300))
    play.leader_fills("L1")
    stop = ticket(Side.SELL, 450, "0", order_type=OrderType.STOP_LOSS_MARKET, trigger_price=D(98))
    play.places("L2", stop)
    entry, leaving = play.of()
    assert leaving.ticket.quantity == 225
    play.answer = lambda command: quiet(play) if isinstance(command, Cancel | Modify) else None
    play.leader_fills("L2")
    play.fills_follower(entry, 150)
    late = play.queue.pop()
    play.fills_follower(leaving, 225)
    play.drain()
    play.places("L3", ticket(quantity=150, price="101"))

    assert play.of()[-1].ticket.quantity == 75
    play.feed(late)
    play.leader_fills("L3")
    play.waits(5)
    play.fills()
    assert play.lots() == 0


def short_by_a_rest(play: Play) -> Held:
    """Let an entry of the other side fill in part before it ends, while nothing is known of the entry that is due."""
    play.places("L1", ticket(Side.SELL, 300, "103"))
    play.places("L2", ticket(quantity=300, validity=Validity.IOC))
    first, entry = play.of()
    play.leader_fills("L2")
    play.fills_follower(first, 75)
    play.drain()
    play.cancels("L1")
    return entry


def test_a_sweep_waits_for_the_book_where_an_entry_may_have_closed_the_position() -> None:
    play = Play()
    entry = short_by_a_rest(play)
    play.waits(3)
    assert "asha" in play.state.ask_books
    assert len(play.of()) == 2
    entry.filled, entry.status = 150, OrderStatus.TRADED
    play.positions["asha"] += 150
    play.reads_book("asha")
    play.waits(15)

    assert len(play.of()) == 2
    assert play.lots() == 1


@pytest.mark.parametrize("is_read", [True, False], ids=["the book shows it open", "the book cannot be read"])
def test_a_sweep_goes_once_the_entry_is_known_not_to_have_filled(is_read: bool) -> None:
    play = Play()
    entry = short_by_a_rest(play)
    play.waits(2)
    assert len(play.of()) == 2
    if is_read:
        play.reads_book("asha")
        play.waits(1)
    else:
        play.waits(10)

    assert [each.ticket.quantity for each in play.of() if each is not entry] == [150, 75]


def test_a_stop_does_not_cover_an_entry_that_may_never_have_arrived() -> None:
    play = Play()
    play.answer = unanswered(play, Place)
    play.places("L1")
    play.answer = None
    play.leader_fills("L1")
    play.places("L2", ticket(Side.SELL, price="89", order_type=OrderType.STOP_LOSS, trigger_price=D(90)))
    assert not play.of()

    play.fills_follower(play.takes(places(play)[0]), 75)
    play.drain()
    assert [each.ticket.side for each in play.of()] == [Side.BUY, Side.SELL]


def test_a_copy_that_filled_though_the_leader_s_order_was_rejected_is_said_and_closed() -> None:
    play = Play()
    play.places("L1")
    play.fills()
    play._leader_becomes("L1", OrderStatus.REJECTED)
    play.waits(5)
    play.fills()

    assert ["was rejected" in each.text for each in play.alerts()] == [True]
    assert play.lots() == 0


def test_what_was_adopted_is_kept_when_the_leader_got_out_of_a_part_before() -> None:
    """The journal was lost: the leader bought eight lots and sold four, the follower four and two under our names."""
    play = Play(begin=False)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.feed(InstrumentRead(play.now, play.row))
    client_id = play.followers[0].client_id
    for order_id, side, quantity in (("L1", Side.BUY, 300), ("L2", Side.SELL, 150)):
        terms = ticket(side, quantity)
        name = correlation_id("1000000001", play.now.date(), order_id, client_id, 0, 0)
        held = Held(f"F{order_id}", "asha", name, terms, OrderStatus.TRADED, quantity, D(100))
        play.orders[held.order_id] = held
        play.positions["asha"] += side.sign * quantity
        double = replace(terms, quantity=2 * quantity)
        play.leader[order_id] = Order(order_id, double, OrderStatus.TRADED, play.now, play.now, 2 * quantity, D(100))
    play.reads_book("asha")
    play.feed(Adopted(play.now, "asha", tuple(each.seen() for each in play.of())))
    play.reads_leader_book()
    play.waits(30)
    play.fills()
    assert play.lots() == 2

    play.trades("L3", -4)
    assert play.lots() == 0


@pytest.mark.parametrize(("leader", "left"), [(0, 0), (4, 2)])
def test_what_is_adopted_when_the_leader_is_out_is_closed(leader: int, left: int) -> None:
    """The journal was lost, and the account cannot be read before the leader was read."""
    play = Play(begin=False)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.feed(InstrumentRead(play.now, play.row))
    terms = ticket(Side.BUY, 150)
    name = correlation_id("1000000001", play.now.date(), "L1", play.followers[0].client_id, 0, 0)
    held = Held("F1", "asha", name, terms, OrderStatus.TRADED, 150, D(100))
    play.orders["F1"] = held
    play.positions["asha"] = 150
    play.leader["L1"] = Order("L1", ticket(Side.BUY, 300), OrderStatus.TRADED, play.now, play.now, 300, D(100))
    if leader < 4:
        sold = ticket(Side.SELL, 300 - 75 * leader)
        play.leader["L2"] = Order("L2", sold, OrderStatus.TRADED, play.now, play.now, sold.quantity, D(100))
    play.reads_leader_book()
    play.feed(Adopted(play.now, "asha", (held.seen(),)))
    play.reads_book("asha")
    play.waits(30)
    play.fills()

    assert play.lots() == left


def test_an_exit_that_was_adopted_and_cancelled_is_placed_anew_while_the_leader_s_works() -> None:
    """The journal was lost while a stop and a target rested; the entry that rests too is not entered anew."""
    first = Play(followers=(follower(ratio="1"),))
    first.trades("L1", 4)
    first.places("STOP", ticket(Side.SELL, 300, "89", order_type=OrderType.STOP_LOSS, trigger_price=D(90)))
    first.places("TARGET", ticket(Side.SELL, 300, "110"))
    first.places("L2", ticket(quantity=75, price="80"))
    before = first.of()
    play = Play(followers=first.followers, begin=False)
    play.orders, play.numbered = first.orders, first.numbered
    play.leader, play.positions, play.now = first.leader, first.positions, first.now
    play.starts()

    def taken(command: Command) -> Event | None:
        return None if isinstance(command, Place) else accepted(play, command, play.orders[command.order_id])

    play.answer = taken
    play.feed(Adopted(play.now, "asha", tuple(each.seen() for each in before)))
    play.waits(2)
    play.answer = None
    assert play.of() == before, "two exits at once"
    for each in before[1:]:
        play.dies(each)
    play.waits(10)

    assert [(each.ticket.quantity, each.ticket.price) for each in play.of() if each.is_open] == [
        (300, D(89)),
        (300, D(110)),
    ]
    play.leader_fills("STOP")
    play.cancels("TARGET")
    play.fills()
    assert play.lots() == 0


@pytest.mark.parametrize(("lots", "left"), [(4, 150), (3, 0)])
def test_an_adopted_exit_that_had_filled_in_part_comes_again_where_it_closes_all(lots: int, left: int) -> None:
    first = Play(followers=(follower(ratio="1"),))
    first.trades("L1", 4)
    first.places("TARGET", ticket(Side.SELL, 75 * lots, "110"))
    first.leader_fills("TARGET", 150)
    first.fills_follower(first.of()[-1], 150)
    first.drain()
    play = Play(followers=first.followers, begin=False)
    play.orders, play.numbered = first.orders, first.numbered
    play.leader, play.positions, play.now = first.leader, first.positions, first.now
    play.starts()
    play.feed(Adopted(play.now, "asha", tuple(each.seen() for each in play.of())))
    play.waits(10)

    assert sum(each.ticket.quantity for each in play.of() if each.is_open) == left
    play.leader_fills("TARGET")
    play.waits(10)
    play.fills()
    assert play.lots() == 4 - lots


def test_an_adopted_exit_that_has_traded_is_not_placed_anew() -> None:
    first = Play(followers=(follower(ratio="1"),))
    first.trades("L1", 4)
    first.places("TARGET", ticket(Side.SELL, 150, "110"))
    first.fills()
    play = Play(followers=first.followers, begin=False)
    play.orders, play.numbered = first.orders, first.numbered
    play.leader, play.positions, play.now = first.leader, first.positions, first.now
    play.starts()
    play.feed(Adopted(play.now, "asha", tuple(each.seen() for each in play.of())))
    play.waits(60)

    assert (play.lots(), len(play.of())) == (2, 2)


def test_a_disclosed_quantity_is_learnt_from_the_book_and_kept_through_a_change_of_price() -> None:
    play = Play()
    play.places("L1", ticket(quantity=300))
    play.leader["L1"] = replace(play.leader["L1"], ticket=ticket(quantity=300, disclosed_quantity=150))
    play.reads_leader_book()
    assert play.of()[0].ticket.disclosed_quantity == 75

    changed = replace(ticket(quantity=300), price=D(101))
    play.now += timedelta(seconds=2)
    seen = replace(play.leader["L1"], ticket=changed, status=OrderStatus.MODIFIED, updated_at=play.now)
    play.feed(OrderSeen(play.now, LEADER, seen, Source.STREAM))
    assert (play.of()[0].ticket.price, play.of()[0].ticket.disclosed_quantity) == (D(101), 75)


def test_an_exit_never_goes_beyond_what_the_broker_holds_in_an_instrument_first_traded_later() -> None:
    """The follower was short of its own accord before the leader ever traded the instrument."""
    play = Play(begin=False)
    play.positions["asha"] = -75
    play.starts()
    play.trades("L1", 2)
    assert play.positions["asha"] == 0
    play.trades("L2", -2)

    assert play.positions["asha"] == 0


def test_leader_in_and_out_while_nobody_looked_opens_nothing() -> None:
    """Both orders are fresh, and both are over: the position that the entry opened does not stand any more."""
    play = Play()
    play.waits(1)
    for order_id, side in (("L1", Side.BUY), ("L2", Side.SELL)):
        terms = ticket(side, 300, "0", order_type=OrderType.MARKET)
        play.leader[order_id] = Order(order_id, terms, OrderStatus.TRADED, play.now, play.now, 300, D(100))
    play.reads_leader_book()
    play.waits(10)
    play.fills()

    assert play.lots() == 0
    assert {each.leader_order_id for each in play.skips()} == {"L1", "L2"}


def test_what_is_closed_again_of_a_filled_entry_leaves_the_room_to_the_one_that_works() -> None:
    """Both entries and the exit between them are first seen together, in the book."""
    play = Play(followers=(follower(ratio="2"),))
    at = play.now
    for order_id, terms, filled in (
        ("L1", ticket(), 150),
        ("L2", ticket(Side.SELL, 75), 75),
        ("L3", ticket(quantity=75), 0),
    ):
        status = OrderStatus.TRADED if filled else OrderStatus.PENDING
        play.leader[order_id] = Order(order_id, terms, status, at, at, filled, D(100) if filled else D(0))
    play.reads_leader_book()
    play.waits(1)

    due = {each.leader_order_id: each.ticket.quantity for each in play.decisions if isinstance(each, Place)}
    assert due == {"L1": 150, "L3": 150}


def test_a_cancelled_entry_gives_its_carry_back() -> None:
    play = Play()
    play.trades("L1", 1)
    play.places("L2", ticket(quantity=75))
    play.cancels("L2")
    play.trades("L3", 1)

    assert play.lots() == 1


def test_an_entry_after_the_leader_began_to_get_out_goes_at_once() -> None:
    play = Play()
    play.trades("L1", 4)
    play.trades("L2", -2)
    play.places("L3", ticket(quantity=300))

    assert play.of()[-1].ticket.quantity == 150


def test_what_is_held_for_a_day_is_gone_on_the_next() -> None:
    play = Play()
    play.trades("L1", 4)
    play.leader.clear()
    play.positions["asha"] = 0
    play.now += timedelta(days=1)
    play.feed(Ticked(play.now))
    play.reads_leader_book(net=0)
    play.reads_book("asha")
    play.numbered = 100
    play.trades("M1", 4)
    play.waits(10)

    assert play.lots() == 2


def test_what_is_carried_overnight_is_closed_when_the_leader_closes_it() -> None:
    play = Play()
    carried = ticket(quantity=300, price="0", order_type=OrderType.MARKET, product=Product.MARGIN)
    play.places("L1", carried)
    play.leader_fills("L1")
    play.fills()
    assert play.lots() == 2
    play.leader.clear()
    play.now += timedelta(days=1)
    position = (Position(NIFTY, Product.MARGIN, 300),)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.feed(BookRead(play.now, "asha", (), (Position(NIFTY, Product.MARGIN, 150),)))
    play.feed(BookRead(play.now, LEADER, (), position))
    play.places("M1", replace(carried, side=Side.SELL))
    play.leader_fills("M1")
    play.fills()

    assert play.lots() == 0


def test_yesterday_s_rows_are_not_today_s_orders() -> None:
    play = Play()
    play.trades("L1", 4)
    play.trades("L2", -4)
    play.now += timedelta(days=1)
    play.feed(Ticked(play.now))
    play.decisions.clear()

    play.feed(BookRead(play.now, LEADER, tuple(play.leader.values())))
    play.feed(BookRead(play.now, "asha", tuple(each.seen() for each in play.of())))

    assert play.decisions == []


# --- Chance ------------------------------------------------------------------------------------------------


def test_sizes_follow_the_rule_exactly_when_nothing_goes_wrong() -> None:
    """Against a reckoning of its own: entries rounded down with carry, exits by fraction of what is due."""
    for seed in range(150):
        random = Random(seed)
        ratio = random.choice(("0.1", "0.3", "0.5", "0.7", "1", "1.5", "3"))
        play = Play(followers=(follower(ratio=ratio),))
        net, due, carry = 0, Fraction(0), Fraction(0)
        for number in range(random.randint(2, 12)):
            gets_out = net and random.random() < 0.5
            lots = -random.randint(1, net) if gets_out else random.randint(1, 5)
            play.trades(f"L{number}", lots)
            play.waits(3)
            if lots > 0:
                carry += lots * Fraction(ratio)
                due, carry = due + carry // 1, carry % 1
            else:
                due *= Fraction(net + lots, net)
            net += lots
            carry = carry if net else Fraction(0)
            assert abs(play.lots() - due) < 1, (seed, number)
            assert play.lots() <= net * Fraction(ratio) + 2, (seed, number)
            assert net or not play.lots(), (seed, number)


@pytest.mark.parametrize("words", ["", "RMS:1:Insufficient Funds"])
def test_the_words_of_a_rejection_come_with_the_first_sighting(words: str) -> None:
    """The answer to the placing says REJECTED and no more."""

    def rejected(command: Command) -> Event:
        assert isinstance(command, Place)
        name = play.takes(command).correlation_id
        return Refused(play.now, "asha", name, Verb.PLACE, RefusalClass.OTHER, "", "", "F1")

    play = Play()
    play.answer = rejected
    play.places("L1")
    assert [(each.reason, each.detail) for each in play.skips()] == [(SkipReason.REFUSED, "")]
    held = play.of()[0]
    held.status = OrderStatus.REJECTED
    refusal = RefusalClass.MARGIN if words else None
    for _ in range(2):
        row = replace(held.seen(), order_id="F1", note=words, refusal=refusal)
        play.feed(BookRead(play.now, "asha", (row,), ()))

    told = [(each.reason, each.detail) for each in play.skips()[1:]]
    assert told == ([(SkipReason.INSUFFICIENT_MARGIN, words)] if words else [])
    assert len(play.of()) == 1


def test_an_exit_that_waits_for_a_token_is_not_said_to_have_nothing_to_close() -> None:
    play = Play((follower(ratio="1"),))
    play.trades("L1", 1)
    play.feed(TokenRefused(play.now, "asha", RefusalClass.TOKEN, "DH-901"))
    play.trades("L2", -1)
    play.waits(60)
    assert play.skips() == []
    play.feed(TokenRenewed(play.now, "asha"))
    for _ in range(4):
        play.reads_book("asha")
        play.waits(10)
        play.fills()

    assert play.lots() == 0
    assert [each.reason for each in play.skips()] in ([], [SkipReason.LEADER_DONE])


@pytest.mark.parametrize(
    ("side", "price", "trigger", "placed"),
    [
        (Side.BUY, "100", 105, False),
        (Side.BUY, "105", 100, True),
        (Side.SELL, "105", 100, False),
        (Side.SELL, "100", 105, True),
        (Side.BUY, "100", 100, True),
    ],
)
def test_a_stop_whose_trigger_is_on_the_wrong_side_is_not_sent(
    side: Side, price: str, trigger: int, placed: bool
) -> None:
    play = Play((follower(ratio="1"),))
    play.places("L1", ticket(side, 75, price, order_type=OrderType.STOP_LOSS, trigger_price=D(trigger)))

    assert [each.reason for each in play.skips()] == ([] if placed else [SkipReason.BAD_TERMS])
    assert len(play.of()) == placed


def test_frames_that_cannot_be_read_are_alerted_once_in_a_while() -> None:
    play = Play()
    for _ in range(20):
        play.feed(FrameRefused(play.now, LEADER, "the order belongs to another client id"))
        play.waits(60)

    assert [each.text[:44] for each in play.alerts()] == ["leader: a frame of its stream cannot be read"] * 2


def works_though(play: Play, answer: Answer) -> Held:
    """The placing is refused or throttled, and a moment later the broker shows that the order works."""
    play.answer = answer
    play.places("L1", ticket(price="98"))
    play.answer = None
    held = play.takes(places(play)[-1])
    play.waits(0.2)
    return held


def too_many(play: Play) -> Answer:
    def answer(command: Command) -> Event | None:
        return Throttled(play.now, command.account, command.correlation_id, Verb.PLACE, "429")

    return answer


@pytest.mark.parametrize("answer", [lambda play: refused(play, RefusalClass.OTHER, Place), too_many])
def test_an_order_that_was_refused_and_works_is_looked_after(answer: Callable[[Play], Answer]) -> None:
    play = Play()
    held = works_though(play, answer(play))
    play.feed(OrderSeen(play.now, "asha", held.seen(), Source.BOOK))
    play.waits(10)
    assert len(places(play)) == 1
    assert ["is looked after" in each.text for each in play.alerts()][-1]

    play.cancels("L1")
    play.waits(5)
    assert held.status is OrderStatus.CANCELLED


def test_an_order_that_was_refused_and_works_is_looked_after_though_the_leader_s_is_over() -> None:
    """The leader's had filled, and nobody looked at it any more; then the leader gets out."""
    play = Play()
    held = works_though(play, refused(play, RefusalClass.OTHER, Place))
    play.leader_fills("L1")
    play.waits(5)
    play.feed(OrderSeen(play.now, "asha", held.seen(), Source.BOOK))
    play.waits(5)
    assert held.is_open
    assert [each.order_id for each in play.state.accounts["asha"].open.values()] == [held.order_id]
    play.trades("L2", -play.leader_net() // 75, fills=False)
    play.waits(5)

    assert held.status is OrderStatus.CANCELLED


@pytest.mark.parametrize("answer", [lambda play: refused(play, RefusalClass.OTHER, Place), too_many])
def test_an_order_that_was_refused_and_works_counts_for_the_limits(answer: Callable[[Play], Answer]) -> None:
    play = Play()
    held = works_though(play, answer(play))
    play.feed(OrderSeen(play.now, "asha", held.seen(), Source.BOOK))
    lots = held.ticket.quantity // 75
    play.state.accounts["asha"].follower = follower(limits=Limits(max_position_lots=lots))
    play.places("L2")

    assert [each.leader_order_id for each in play.skips("LIMIT_POSITION_LOTS")] == ["L2"]


def test_of_an_order_that_was_throttled_and_works_and_the_one_sent_instead_one_stays() -> None:
    play = Play()
    held = works_though(play, too_many(play))
    play.waits(5)
    assert len(places(play)) == 2
    play.feed(OrderSeen(play.now, "asha", held.seen(), Source.BOOK))
    play.waits(5)

    assert [each.is_open for each in play.of()].count(True) == 1
    assert len(places(play)) == 2


def test_a_refused_exit_that_works_goes_when_the_leader_is_out() -> None:
    play = Play()
    play.trades("IN", 4)
    play.answer = refused(play, RefusalClass.OTHER, Place)
    play.places("OUT", ticket(Side.SELL, 300, "105"))
    play.answer = None
    held = play.takes(places(play)[-1])
    play.feed(OrderSeen(play.now, "asha", held.seen(), Source.STREAM))
    play.leader_fills("OUT")
    play.waits(10)
    play.fills()

    assert play.lots() == 0
    assert held.filled == 150
    assert len(places(play)) == 2


def test_an_order_that_was_refused_and_is_seen_so_stays_so() -> None:
    play = Play()
    held = works_though(play, refused(play, RefusalClass.OTHER, Place))
    held.status = OrderStatus.TRANSIT
    play.feed(OrderSeen(play.now, "asha", held.seen(), Source.BOOK))
    play.rejects(held)
    play.waits(10)

    assert not any("is there" in each.text for each in play.alerts())


def test_an_order_that_was_rejected_after_a_part_had_filled_stays_over() -> None:
    """Whatever is told of it later: only what nobody has counted yet brings an order back."""
    play = Play()
    play.places("L1", ticket(quantity=300))
    (held,) = play.of()
    play.fills_follower(held, 75)
    play.drain()
    play.rejects(held)
    play.feed(OrderSeen(play.now, "asha", replace(held.seen(), last_price=D(101)), Source.BOOK))
    play.waits(5)

    assert not any("is there" in each.text for each in play.alerts())
    assert play.lots() == 1

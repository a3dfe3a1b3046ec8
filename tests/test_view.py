from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fcntl import ioctl
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest

from copytrader import narrate
from copytrader.account import Account
from copytrader.core.facts import Alert, Connected, Level, Skip, Started, TokenRefused
from copytrader.core.model import (
    LEADER,
    Desk,
    OrderKind,
    OrderStatus,
    OrderType,
    Product,
    RefusalClass,
    Side,
    SkipReason,
    Ticket,
    label,
)
from copytrader.core.state import State
from copytrader.display import Form, LiveDisplay, form_for
from copytrader.outlet import Outlet
from copytrader.view import Known, Line, Screen, Watching, page
from tests.core.play import START, Play, follower, instrument, ticket
from tests.e2e.stage import ROOT, Stage

TEAM = (follower("asha", "0.5"), follower("ravi", "1"))
NOW = START + timedelta(seconds=30)
D = Decimal


def now() -> datetime:
    return NOW


def known(state: State, watching: Watching | None = None, *, connected: bool = True, dry_run: bool = False) -> Known:
    """What the copier would show of a state, every stream up and every book just read."""
    # The page reads of an account's connections only what is plain data.
    accounts = {name: Account(name, "", None, None) for name in (LEADER, *state.accounts)}  # type: ignore[arg-type]
    for account in accounts.values():
        account.connected, account.last_book, account.last_frame = connected, NOW - timedelta(seconds=2), NOW
    return Known(state, accounts, watching or Watching(now), "1000000001", dry_run)


def text(lines: list[Line]) -> list[str]:
    return ["".join(piece for piece, _ in line).rstrip() for line in lines]


def shown(state: State, watching: Watching | None = None, *, width: int = 80, height: int = 24, **options: Any) -> str:
    return "\n".join(text(page(known(state, watching, **options), NOW, width, height)))


@pytest.fixture
def play() -> Play:
    """A leader with one order filled, one working, one cancelled."""
    play = Play(TEAM)
    play.places("L1", ticket(quantity=300))
    play.leader_fills("L1")
    play.fills()
    play.places("L2", ticket(quantity=150, price="90"))
    play.places("L3", ticket(quantity=75, price="80"))
    play.cancels("L3")
    return play


LONG = (follower("the-family-of-asha", "0.5"), follower("the-family-of-ravi", "1"))


@pytest.mark.parametrize("width", [80, 160])
def test_it_says_that_it_copies_however_many_names_there_are(width: int) -> None:
    many = tuple(follower(f"member-{number:02}", "1") for number in range(20))

    assert shown(Play(many).state, width=width).startswith("1000000001 to 20 followers: copying ")
    assert shown(Play(LONG).state, width=160).startswith(
        "1000000001 to the-family-of-asha, the-family-of-ravi: copying "
    )


def test_a_long_name_is_whole_where_there_is_room_and_known_by_both_ends_where_not() -> None:
    state = Play(LONG).state

    assert re.search(r"^the-family-of-asha up ", shown(state, width=160), re.MULTILINE)
    assert re.search(r"^the-fa…f-asha up ", shown(state, width=80), re.MULTILINE)
    assert re.search(r"^the-fa…f-ravi up ", shown(state, width=80), re.MULTILINE)


def test_a_screen_that_cannot_be_drawn_is_said_and_changes_nothing_of_how_the_session_ends(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    copier = SimpleNamespace(state=play.state, ready=asyncio.Event())

    def broken(_: Screen) -> None:
        raise ValueError("no such column")

    async def session() -> None:
        copier.ready.set()
        outlet = Outlet(stream)
        display = LiveDisplay(outlet, now, dry_run=False)
        display.watch(cast(Any, copier))
        display.say("copying")
        await asyncio.sleep(0.05)
        await display.close()
        outlet.close()

    monkeypatch.setattr(Screen, "draw", broken)
    asyncio.run(session())

    said = stream.getvalue()
    assert "warning: the screen cannot be drawn, lines follow (ValueError: no such column)" in said
    assert "stopped; nobody looks after these" in said


# --- the page ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (100, 30), (160, 50), (300, 100), (20, 4)])
def test_a_page_fills_the_terminal_and_never_leaves_it(play: Play, size: tuple[int, int]) -> None:
    width, height = size
    lines = text(page(known(play.state), NOW, width, height))

    assert len(lines) == height
    assert max(map(len, lines)) <= width


def test_letters_that_take_two_cells_do_not_leave_the_terminal() -> None:
    play = Play(TEAM, row=instrument(symbol="株" * 60))
    play.places("L1")

    lines = page(known(play.state), NOW, 80, 24)

    assert max(sum(2 if letter == "株" else 1 for letter in line) for line in text(lines)) <= 80


def test_leader_orders_stand_newest_first_with_each_copy_below(play: Play) -> None:
    lines = shown(play.state).splitlines()
    start = lines.index("leader's orders and their copies, newest first")

    assert [line[10:] for line in lines[start + 1 : start + 7]] == [
        "BUY 75 NIFTY-Dec2026-24000-PE LIMIT 80  cancelled",
        "asha BELOW_ONE_LOT · ravi 75 cancelled",
        "BUY 150 NIFTY-Dec2026-24000-PE LIMIT 90  working",
        "asha 75 open · ravi 150 open",
        "BUY 300 NIFTY-Dec2026-24000-PE LIMIT 100  filled at 100",
        "asha 150 filled · ravi 300 filled",
    ]


def test_orders_of_a_day_that_is_gone_have_its_date_and_are_not_told_as_working(play: Play) -> None:
    play.places("L4", ticket(quantity=150, price="70", after_market=True))

    lines = text(page(known(play.state), NOW + timedelta(days=1), 80, 30))
    start = lines.index("leader's orders and their copies, newest first")

    assert lines[start + 1 : start + 9] == [
        "23 Nov    BUY 150 NIFTY-Dec2026-24000-PE LIMIT 70  working",
        "          asha 75 open · ravi 150 open",
        "23 Nov    BUY 75 NIFTY-Dec2026-24000-PE LIMIT 80  cancelled",
        "          asha BELOW_ONE_LOT · ravi 75 cancelled",
        "23 Nov    BUY 150 NIFTY-Dec2026-24000-PE LIMIT 90  over with its day",
        "          asha 75 over · ravi 150 over",
        "23 Nov    BUY 300 NIFTY-Dec2026-24000-PE LIMIT 100  filled at 100",
        "          asha 150 filled · ravi 300 filled",
    ]


def test_what_was_copied_before_a_restart_is_not_denied(play: Play) -> None:
    assert shown(Play(TEAM).state).splitlines()[1] == "no order copied yet"
    assert shown(play.state).splitlines()[1] == "no order was timed since the start"


@pytest.mark.parametrize("height", range(10, 30))
def test_no_order_is_shown_without_its_copies(height: int) -> None:
    play = Play(TEAM)
    for number in range(12):
        play.places(f"L{number}", ticket(quantity=150, price=str(80 + number)))
    lines = shown(play.state, height=height).splitlines()

    orders = [place for place, line in enumerate(lines) if " BUY 150 " in line]
    assert all(re.search(r"asha .* · ravi ", lines[place + 1]) for place in orders)


def test_followers_for_whom_a_line_has_no_room_are_counted() -> None:
    team = tuple(follower(name, "1") for name in ("asha", "ravi", "mira-devi", "grandmother", "uncle"))
    play = Play(team)
    play.trades("L1", 2)
    play.places("L2", ticket(quantity=150))

    page = shown(play.state)
    assert "leader +150  asha +150  ravi +150  +3 more" in page
    assert "asha 150 open · ravi 150 open · mira-devi 150 open  +2 more" in page
    wide = shown(play.state, width=150)
    assert "mira-devi +150  grandmother +150  uncle +150" in wide
    assert re.search(r"mira-devi 150 open  \+2 more$", wide, re.MULTILINE)


def test_a_wide_terminal_has_them_on_one_line(play: Play) -> None:
    assert re.search(r"LIMIT 90  working +asha 75 open · ravi 150 open$", shown(play.state, width=160), re.MULTILINE)


def test_copied_positions_are_shown_with_the_leaders(play: Play) -> None:
    assert "  NIFTY-Dec2026-24000-PE INTRADAY  leader +300  asha +150  ravi +300" in shown(play.state)
    assert "nothing is held from copying" in shown(Play(TEAM).state)


def test_what_the_person_closed_by_hand_is_not_shown_as_held_from_copying() -> None:
    play = Play()
    play.trades("L1", 4)
    play.trades_by_hand(-1)
    assert "  asha +75" in shown(play.state)
    assert "asha: holds +75 NIFTY-Dec2026-24000-PE INTRADAY from copying" in list(narrate.left_open(play.state))

    play.trades_by_hand(-1)
    assert "nothing is held from copying" in shown(play.state)
    assert list(narrate.left_open(play.state)) == []


def test_a_partial_fill_a_rejection_and_an_unknown_fate_are_told_apart() -> None:
    play = Play(TEAM)
    play.places("L1", ticket(quantity=300))
    asha, ravi = play.of("asha")[0], play.of("ravi")[0]
    play.fills_follower(asha, 75)
    play.drain()
    play.rejects(ravi)
    assert "asha 150 open, 75 filled · ravi 300 rejected" in shown(play.state)

    play.state.slices[asha.correlation_id].unknown = True
    assert "asha 150 UNKNOWN, 75 filled" in shown(play.state)


def test_what_stops_an_account_is_said(play: Play) -> None:
    assert shown(play.state).startswith("1000000001 to asha, ravi: copying ")
    assert "the leader's stream is lost" in shown(play.state, connected=False)
    assert shown(play.state, dry_run=True).startswith("dry run, nothing is sent: ")

    play.state.accounts["asha"].halted = True
    assert re.search(r"^asha .* halted$", shown(play.state), re.MULTILINE)
    play.state.accounts["ravi"].halted = True
    assert "HALTED" in shown(play.state).splitlines()[0]


def refused(play: Play, watching: Watching, name: str = LEADER) -> None:
    event = TokenRefused(play.now, name, RefusalClass.TOKEN, "Dhan answered with status 401: DH-901 it is invalid")
    watching.take(event, play.feed(event), play.state)


def test_a_refused_token_of_the_leader_is_said_at_80_columns_with_its_remedy(play: Play) -> None:
    watching = Watching(now)
    refused(play, watching)

    lines = shown(play.state, watching, connected=False).splitlines()

    assert lines[0].startswith("copytrader login leader: its token is refused, nothing is copied ")
    assert re.search(r"^leader .*  token: copytrader login leader$", lines[3])
    assert any(line.startswith("  10:00:00 CRITICAL copytrader login leader: leader: the broker") for line in lines)
    assert "no entry is copied" in shown(play.state, watching).splitlines()[0]


def test_a_refused_token_of_a_follower_is_said_in_its_line(play: Play) -> None:
    watching = Watching(now)
    refused(play, watching, "asha")

    assert re.search(r"^asha .*  token: copytrader login asha$", shown(play.state), re.MULTILINE)


def test_a_book_that_cannot_be_read_is_not_copied_from(play: Play) -> None:
    seen = known(play.state, connected=False)
    leader = cast(Account, seen.accounts[LEADER])
    assert "copying from the book" in text(page(seen, NOW, 80, 24))[0]

    leader.trouble, leader.last_book = "cannot be read: no answer", NOW - timedelta(seconds=11)

    assert "nothing is copied: the leader's stream is lost and its book" in text(page(seen, NOW, 80, 24))[0]


def test_a_halt_does_not_hide_that_the_leader_cannot_be_heard(play: Play) -> None:
    for account in play.state.accounts.values():
        account.halted = True
    seen = known(play.state, connected=False)
    leader = cast(Account, seen.accounts[LEADER])
    leader.trouble, leader.last_book = "cannot be read: no answer", NOW - timedelta(seconds=11)

    said = "HALTED; nothing is copied: the leader's stream is lost and its book cannot be read"
    assert text(page(seen, NOW, 120, 24))[0].startswith(said)
    assert text(page(seen, NOW, 80, 24))[0].startswith(said[:69])


def test_why_an_account_cannot_be_read_has_room_in_its_line(play: Play) -> None:
    seen = known(play.state)
    for account in seen.accounts.values():
        cast(Account, account).trouble = "cannot be read: no answer"

    lines = text(page(seen, NOW, 80, 24))

    assert re.search(r"^leader .*  read; cannot be read: no answer$", lines[3])
    assert re.search(r"^asha .*  copying; cannot be read: no answer$", lines[4])


LOST = "leader is out of reach: for 30 s its book cannot be read and its order stream is down; nothing is copied"


def alerted(watching: Watching, *texts: str, level: Level = Level.CRITICAL) -> None:
    for each in texts:
        watching.take(Connected(NOW, "asha"), [Alert(level, each, None)], State())


def test_what_is_critical_is_all_there_and_whole_where_rows_are_empty() -> None:
    watching = Watching(now)
    alerted(watching, LOST, LOST.replace("leader", "asha"), LOST.replace("leader", "ravi"))
    for number in range(9):
        watching.note(f"warning {number}")

    lines = shown(Play(TEAM).state, watching).splitlines()

    at = lines.index("alerts and skips") + 1
    assert lines[at : at + 2] == [
        "  10:00:30 CRITICAL leader is out of reach: for 30 s its book cannot be read and",
        "           its order stream is down; nothing is copied",
    ]
    assert "\n".join(lines).count("CRITICAL") == 3
    assert lines[-2:] == ["  10:00:30 warning 7", "  10:00:30 warning 8"]


def busy() -> Play:
    """A day whose orders fill any screen."""
    play = Play(TEAM)
    for number in range(40):
        play.places(f"L{number}", ticket(quantity=300))
    return play


def test_what_is_critical_is_whole_on_a_full_screen_too_and_leaves_room_for_orders() -> None:
    play, watching = busy(), Watching(now)
    for number in range(20):
        watching.note(f"warning {number}, {'which goes on and on ' * 9}")
    alerted(watching, *(f"critical {number}" for number in range(20)), LOST)

    lines = shown(play.state, watching).splitlines()

    assert "           its order stream is down; nothing is copied" in lines
    assert any(line.startswith("  10:00:30 warning 19, which") for line in lines)
    assert len(lines) == 24
    assert len(lines) - lines.index("alerts and skips") == 9
    assert sum("LIMIT 100" in line for line in lines) >= 2


@pytest.mark.parametrize("width", [80, 160])
def test_a_paragraph_is_wrapped_though_orders_fill_the_screen(width: int) -> None:
    play, watching = busy(), Watching(now)
    summary = "Mon 23 Nov: 40 orders of the leader. " + "asha: 40 copies, 12 with fills. " * 9 + "1 alert."
    watching.note(summary)

    lines = shown(play.state, watching, width=width).splitlines()

    at = lines.index("alerts and skips") + 1
    assert " ".join(line.strip() for line in lines[at:]) == f"10:00:30 {summary}"


def test_what_is_said_again_and_again_does_not_drive_out_what_is_critical(play: Play) -> None:
    watching = Watching(now)
    refused(play, watching)
    for number in range(200):
        watching.note("warning: leader: cannot be read")
        watching.note(f"warning {number}")

    lines = shown(play.state, watching).splitlines()
    lines = lines[lines.index("alerts and skips") + 1 :]

    assert lines[0].startswith("  10:00:00 CRITICAL copytrader login leader")
    assert lines[-3:] == [
        "  10:00:30 warning 198",
        "  10:00:30 (200 times) warning: leader: cannot be read",
        "  10:00:30 warning 199",
    ]


def test_of_many_followers_those_in_trouble_come_first() -> None:
    play = Play(tuple(follower(f"f{number:02}") for number in range(50)))
    play.state.accounts["f49"].halted = True

    lines = shown(play.state).splitlines()

    assert lines[4].startswith("f49")
    assert "  and 45 more" in lines


def test_a_follower_that_was_taken_out_of_the_configuration_is_not_shown_as_one(play: Play) -> None:
    play.feed(Started(play.now, "test", "", Desk("1000000001", TEAM[:1], play.rules)))
    for account in play.state.accounts.values():
        account.halted = True
    seen = known(play.state)
    seen = replace(seen, accounts={name: each for name, each in seen.accounts.items() if name != "ravi"})

    lines = text(page(seen, NOW, 80, 24))

    assert lines[0].startswith("HALTED  1000000001 to asha ")
    assert not any(line.startswith("ravi ") for line in lines)
    assert any("asha +150  ravi +300" in line for line in lines)
    assert narrate.halted(play.state).startswith("halted: asha: ")


def test_the_calls_left_are_read_and_not_touched(play: Play) -> None:
    budget = play.state.accounts["ravi"].budget
    calls = len(budget.windows[2])
    late = NOW + timedelta(hours=2)
    page_later = text(page(known(play.state), late, 80, 24))

    assert f"{1000 - calls} this hour" in shown(play.state)
    assert any(line.startswith("ravi") and "1,000 this hour" in line for line in page_later)
    assert len(budget.windows[2]) == calls > 0


def test_how_long_it_took_is_told_in_the_middle_and_at_the_edge() -> None:
    watching = Watching(now)
    assert watching.speed() == ""
    watching.sent.extend(number / 100_000 for number in range(1, 101))
    watching.answered.append(2.5)

    assert watching.speed() == "frame to order p50 0.5 ms p99 1.0 ms, order to answer p50 2.5 s p99 2.5 s"


def test_a_watched_frame_is_timed_from_its_arrival_to_the_order() -> None:
    play = Play(TEAM)
    watching = Watching(now)
    play.now = NOW - timedelta(milliseconds=4)
    decisions = play.places("L1")

    watching.take(play.events[-5], decisions, play.state)
    watching.take(Connected(NOW, "asha"), (), play.state)

    assert list(watching.sent) == [0.004]
    assert watching.turned == {"asha": NOW}


def test_skips_and_alerts_are_shown_as_one_harmless_line_each(play: Play) -> None:
    watching = Watching(now)
    alert = Alert(Level.CRITICAL, "\x1b[2Jred\nsecond line", "asha")
    watching.take(Connected(NOW, "asha"), [*play.skips(), alert], play.state)
    watching.note("word of the operator")

    lines = shown(play.state, watching).splitlines()

    assert "  10:00:30 CRITICAL red second line" in lines
    skip = "  10:00:30 asha: not copied, BELOW_ONE_LOT: BUY 75 NIFTY-Dec2026-24000-PE LIMIT"
    assert any(line.startswith(skip) for line in lines)
    assert "  10:00:30 word of the operator" in lines


def test_what_is_said_of_an_order_for_every_follower_is_one_line() -> None:
    play, watching = Play(TEAM), Watching(now)
    made = play.places("L1", kind=OrderKind.SUPER)
    event = play.events[-1]
    watching.take(event, made, play.state)

    said = "the leader's order L1 is a super order, which is not copied"
    assert [(each.text, each.times) for each in watching.messages.values() if "super" in each.text] == [(said, 1)]
    assert [line for line in narrate.lines(event, made, play.state) if "super" in line] == [f"WARNING: {said}"]
    assert len([each for each in play.alerts() if each.text == said]) == 2


def test_what_is_not_copied_is_named_by_its_terms_and_two_orders_are_two_lines() -> None:
    play, watching = Play((follower("asha", "0.5"),)), Watching(now)
    for order_id, product in (("L1", Product.INTRADAY), ("L2", Product.MARGIN)):
        made = play.places(order_id, ticket(quantity=75, price="80", product=product))
        watching.take(Connected(NOW, "asha"), made, play.state)

    told = "asha: not copied, BELOW_ONE_LOT: BUY 75 NIFTY-Dec2026-24000-PE LIMIT 80: 75 / 75 lots x 0.5 = 0.5"
    assert [each.text.partition(", carry")[0] for each in watching.messages.values()] == [told, told]
    (skip,) = (each for each in play.skips() if each.leader_order_id == "L1")
    plain = list(narrate.lines(Connected(NOW, "asha"), [skip], play.state))[-1]
    assert plain.startswith(f"  {told}") and plain.endswith(" (order L1)")
    assert "asha: not copied, BELOW_ONE_LOT: order L1: 75 / 75" in narrate.skipped(skip, State())


def test_what_no_order_of_the_leader_stands_behind_is_named_by_the_terms_of_ours(play: Play) -> None:
    ours = next(name for name, piece in play.state.slices.items() if piece.follower == "asha")
    skip = Skip("asha", "flat-NSE_FNO-45463-INTRADAY", SkipReason.REFUSED, "RMS: no", ours)

    assert (
        narrate.skipped(skip, play.state)
        == "asha: not copied, REFUSED: BUY 150 NIFTY-Dec2026-24000-PE LIMIT 100: RMS: no"
    )


# --- what stays behind ---------------------------------------------------------------


def test_open_orders_and_copied_positions_are_told_follower_by_follower(play: Play) -> None:
    assert list(narrate.left_open(play.state)) == [
        "asha: open: BUY 75 NIFTY-Dec2026-24000-PE LIMIT 90 (order F3)",
        "asha: holds +150 NIFTY-Dec2026-24000-PE INTRADAY from copying",
        "ravi: open: BUY 150 NIFTY-Dec2026-24000-PE LIMIT 90 (order F4)",
        "ravi: holds +300 NIFTY-Dec2026-24000-PE INTRADAY from copying",
    ]
    assert list(narrate.left_open(Play(TEAM).state)) == []


def test_what_the_person_has_closed_by_hand_is_held_no_more() -> None:
    play = Play((follower("asha", "1"),))
    play.trades("L1", 4)
    play.trades_by_hand(-2)

    assert list(narrate.left_open(play.state)) == ["asha: holds +150 NIFTY-Dec2026-24000-PE INTRADAY from copying"]
    assert "leader +300  asha +150" in shown(play.state)
    play.trades_by_hand(-2)
    assert list(narrate.left_open(play.state)) == []
    assert "nothing is held from copying" in shown(play.state)
    play.trades("L2", -4)
    assert [each.detail for each in play.skips()] == ["copied position 300, 300 of it closed by hand, at the broker 0"]


def test_two_expiries_of_one_month_are_told_apart() -> None:
    for symbol, day, told in (
        ("NIFTY-Dec2026-25000-CE", date(2026, 12, 1), "NIFTY-01Dec2026-25000-CE"),
        ("NIFTY-Dec2026-FUT", date(2026, 12, 29), "NIFTY-29Dec2026-FUT"),
        ("GOLDM", date(2026, 12, 5), "GOLDM 05Dec2026"),
        ("NIFTY 29 DEC 25000 CALL", date(2026, 12, 29), "NIFTY 29 DEC 25000 CALL"),
        ("RELIANCE", None, "RELIANCE"),
    ):
        play = Play(row=instrument(symbol=symbol, expiry=day))

        assert play.state.named(play.row.security) == told


def test_terms_read_as_on_the_ticket() -> None:
    terms: Ticket = ticket(Side.SELL, 75, "98.50", order_type=OrderType.STOP_LOSS)
    terms = replace(terms, trigger_price=D("100.0"))

    assert narrate.terms(terms, State()) == "SELL 75 NSE_FNO 45463 STOP_LOSS 98.5 trigger 100"
    assert OrderStatus.TRADED.is_terminal


# --- writing that waits for nobody ----------------------------------------------------


@contextlib.contextmanager
def piped() -> Iterator[tuple[int, io.TextIOWrapper]]:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield reader, stream
    with contextlib.suppress(OSError):
        os.close(reader)


def test_a_reader_that_stands_still_delays_nobody() -> None:
    with piped() as (reader, stream):
        outlet = Outlet(stream)
        started = time.perf_counter()
        for number in range(20_000):
            outlet.write(f"{number} {'x' * 100}\n")
        outlet.close(patience=0.1)

        assert time.perf_counter() - started < 1
        assert not outlet.is_idle
        os.close(reader)


def test_lines_left_out_are_counted_when_the_reader_goes_on() -> None:
    with piped() as (reader, stream):
        outlet = Outlet(stream)
        for number in range(20_000):
            outlet.write(f"{number} {'x' * 20}\n")
        read = b""
        while b"left out" not in read:
            read += os.read(reader, 1 << 16)
        outlet.close()

    lines = read.decode().splitlines()
    (left_out,) = (int(line.split()[0].replace(",", "")) for line in lines if "were left out" in line)
    assert len(lines) - 1 + left_out == 20_000
    assert lines[0].startswith("0 ")


def test_a_reader_that_left_is_no_error() -> None:
    with piped() as (reader, stream):
        outlet = Outlet(stream)
        os.close(reader)
        outlet.write("one\n")
        outlet.write("two\n")
        outlet.close()

        assert outlet.is_broken


def test_a_stream_without_a_file_is_written_to_all_the_same() -> None:
    stream = io.StringIO()
    outlet = Outlet(stream)
    outlet.write("one\n")
    outlet.close()

    assert (stream.getvalue(), outlet.is_idle) == ("one\n", True)


# --- follow --------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_screen_is_for_terminals_that_can_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "screen-256color")
    assert form_for(Terminal(), plain=False, as_json=False) is Form.LIVE
    assert form_for(Terminal(), plain=True, as_json=False) is Form.PLAIN
    assert form_for(Terminal(), plain=False, as_json=True) is Form.JSON
    assert form_for(io.StringIO(), plain=False, as_json=False) is Form.PLAIN
    monkeypatch.setenv("TERM", "dumb")
    assert form_for(Terminal(), plain=False, as_json=False) is Form.PLAIN


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_follow_well_and_tells_what_is_open(tmp_path: Path, number: signal.Signals) -> None:
    async def session() -> None:
        async with Stage(tmp_path) as stage:
            follow = await stage.follows()
            stage.leader.place("NSE_FNO", "40001", "BUY", 150)
            stage.leader.place("NSE_FNO", "40002", "BUY", 300, "LIMIT", D(118))
            await stage.until(lambda: len(stage.orders()) == 2 and stage.copied() == 75)
            await follow.says("asha: filled 75")
            follow.process.send_signal(number)

            assert await follow.ends() == 0
            assert follow.out == []
            assert [line for line in follow.err if line.startswith("copying")] == ["copying 1000000001 to asha"]
            told = follow.err[follow.err.index("copying 1000000001 to asha") + 1 :]
            ended = next(at for at, line in enumerate(told) if line.startswith("stopped; nobody looks after these"))
            summary = "follow was stopped. "
            odd = [line for line in told[:ended] if not re.match(r"\d\d:\d\d:\d\d |" + summary, line)]
            assert odd == []
            (order,) = (order for order in stage.orders() if order.is_open)
            listed = [stage.exchange.instruments[("NSE_FNO", number)] for number in ("40001", "40002")]
            symbols = [label(each.symbol, each.expiry) for each in listed]
            assert told[ended + 1 :] == [
                f"  asha: open: BUY 150 {symbols[1]} LIMIT 118 (order {order.order_id})",
                f"  asha: holds +75 {symbols[0]} MARGIN from copying",
            ]
            assert "\n".join(told).count(order.order_id) == 1

    asyncio.run(session())


def test_json_prints_every_fact_of_the_session_and_no_more(tmp_path: Path) -> None:
    async def session() -> None:
        async with Stage(tmp_path) as stage:
            first = await stage.follows()
            assert await first.stops() == 0
            assert first.err[-1] == "stopped; no copy is open and nothing is held from copying"
            follow = await stage.follows("--json")
            stage.leader.place("NSE_FNO", "40001", "BUY", 150)
            await stage.until(lambda: stage.copied() == 75)
            assert await follow.stops() == 0

            facts = [json.loads(line) for line in follow.out]
            names = [
                "seq",
                "cause",
                "at",
                "kind",
                "follower",
                "leader_order_id",
                "order_id",
                "correlation_id",
                "reason",
            ]
            assert {tuple(fact) for fact in facts} == {(*names, "body")}
            assert [fact["seq"] for fact in facts] == [*range(facts[0]["seq"], facts[0]["seq"] + len(facts))]
            assert (facts[0]["kind"], facts[-1]["kind"]) == ("Started", "Stopped")
            (place,) = (fact for fact in facts if fact["kind"] == "Place")
            assert place["correlation_id"] == stage.orders()[0].correlation_id
            assert place["body"]["ticket"]["quantity"] == 75

    asyncio.run(session())


def test_a_reader_of_the_facts_that_leaves_does_not_end_the_copying(tmp_path: Path) -> None:
    async def session() -> None:
        async with Stage(tmp_path) as stage:
            follow = await stage.runs("follow", "--json")
            assert follow.process.stdout is not None
            follow.process.stdout._transport.close()  # type: ignore[attr-defined]
            await follow.says("^copying")
            stage.leader.place("NSE_FNO", "40001", "BUY", 150)
            await stage.until(lambda: stage.copied() == 75)
            follow.process.send_signal(signal.SIGTERM)

            assert await asyncio.wait_for(follow.process.wait(), 10) == 0

    asyncio.run(session())


class Tty:
    """A command on a terminal of its own, and everything that it wrote there."""

    def __init__(self, folder: Path, *arguments: str, columns: int = 80) -> None:
        self.master, terminal = pty.openpty()
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "screen-256color"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "copytrader", *arguments],
            cwd=folder,
            env=env,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    async def reads(self, pattern: str, seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, f"{pattern!r} never came: {self.text[-2000:]!r}"
            self.text += await asyncio.to_thread(self._read)

    async def ends(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        while more := await asyncio.to_thread(self._read):
            self.text += more
        return self.process.wait(10)

    def _read(self) -> str:
        try:
            return os.read(self.master, 1 << 16).decode()
        except OSError as error:
            if error.errno == errno.EIO:  # the other end is closed
                return ""
            raise


def test_on_a_terminal_follow_has_a_screen_and_gives_it_back(tmp_path: Path) -> None:
    async def session() -> None:
        async with Stage(tmp_path) as stage:
            with Tty(tmp_path, "follow", "--config", str(stage.config)) as terminal:
                await terminal.reads("\x1b\\[\\?1049h")
                stage.leader.place("NSE_FNO", "40002", "BUY", 300, "LIMIT", D(118))
                await terminal.reads("asha .*150 open")
                assert await terminal.ends() == 0

            before, screen, after = re.split("\x1b\\[\\?1049[hl]", terminal.text)
            assert before.splitlines()[-1].startswith("copying 1000000001 to asha") or "\ncopying" in before
            assert "leader's orders and their copies" in screen
            assert not re.search(r"^copying", screen + after, re.MULTILINE)
            assert "stopped; nobody looks after these" in after
            assert "asha: open: BUY 150" in after
            assert max(len(line) for line in after.splitlines()) <= 80

    asyncio.run(session())


@pytest.mark.parametrize("form", [["--plain"], []], ids=["plain", "live"])
def test_a_terminal_that_stands_still_does_not_stop_the_copying(tmp_path: Path, form: list[str]) -> None:
    async def session() -> None:
        async with Stage(tmp_path) as stage:
            with Tty(tmp_path, "follow", "--config", str(stage.config), *form) as terminal:
                await terminal.reads("copying 1000000001" if form else "newest first")
                os.write(terminal.master, b"\x13")  # Ctrl-S: whoever writes there waits
                await asyncio.sleep(0.3)
                for number in range(1, 4):
                    stage.leader.place("NSE_FNO", "40002", "BUY", 300, "LIMIT", D(118))
                    await stage.until(lambda wanted=number: len(stage.orders()) == wanted)  # type: ignore[misc]
                    await asyncio.sleep(0.3)
                os.write(terminal.master, b"\x11")  # Ctrl-Q

                assert await terminal.ends() == 0
                assert terminal.text.count("  asha: open: BUY 150") == 3

    asyncio.run(session())

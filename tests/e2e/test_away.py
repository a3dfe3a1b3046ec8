"""What the leader did while nobody looked: the process was down, or the stream was away or silent."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from copytrader.core.facts import Cancel, Connected, Disconnected, Modify, Place, Role
from copytrader.simulator.faults import Fault, FaultKind
from copytrader.simulator.model import BookOrder
from copytrader.simulator.streams import Break
from tests.e2e.judge import assert_sound, copies_of, places_of, reasons_of, recorded, until_sound
from tests.e2e.stage import PATIENCE, Stage

D = Decimal


def limit(stage: Stage, price: int, security: str = "40001", quantity: int = 150) -> str:
    return stage.leader.place("NSE_FNO", security, "BUY", quantity, "LIMIT", D(price))


def market(stage: Stage, side: str, security: str, quantity: int = 150) -> str:
    return stage.leader.place("NSE_FNO", security, side, quantity)


def test_what_happened_while_the_process_was_down_is_caught_up_cancels_first(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",), copy="max_age_seconds = 2") as stage:
            program = await stage.follows()
            cancelled, modified, filled = (limit(stage, price) for price in (91, 92, 93))
            exited = market(stage, "BUY", "40002")
            raised = limit(stage, 94)
            await stage.until(lambda: len(stage.orders()) == 5, PATIENCE, "the copies")
            await stage.until(lambda: stage.copied(security_id="40002") == 150, PATIENCE, "the position")
            await until_sound(stage)
            await program.killed()
            before = len(stage.requests())

            stage.leader.cancel(cancelled)
            for price in (85, 86, 87):
                stage.leader.modify(modified, price=D(price))
            stage.leader.fill(filled)
            stage.leader.modify(raised, quantity=300)
            late_exit = market(stage, "SELL", "40002")
            stale = market(stage, "BUY", "40003")
            resting = limit(stage, 60)
            gone = limit(stage, 61)
            stage.leader.cancel(gone)
            await asyncio.sleep(2.2)

            await stage.follows()
            await stage.until(lambda: stage.copied(security_id="40002") == 0, PATIENCE, "the late exit")
            facts = await until_sound(stage)
            sent = stage.requests()[before:]
            [gone_copy] = copies_of(stage, facts, cancelled)
            assert sent[0] == ("DELETE", f"/orders/{gone_copy.order_id}"), "cancels come first"
            assert gone_copy.status == "CANCELLED"
            assert [
                fact.ticket.price for fact in facts if isinstance(fact, Modify) and fact.leader_order_id == modified
            ] == [D(87)], "the last terms alone"
            [raised_copy] = copies_of(stage, facts, raised)
            assert raised_copy.terms.quantity == 300
            [working] = copies_of(stage, facts, filled)
            assert working.is_open, "it stays working: the leader's was filled"
            [exit_copy] = copies_of(stage, facts, late_exit)
            assert (exit_copy.side, exit_copy.filled) == ("SELL", 150)
            assert reasons_of(facts, stale) == ["STALE"]
            assert places_of(facts, stale) == []
            assert [copy.is_open for copy in copies_of(stage, facts, resting)] == [True]
            assert reasons_of(facts, gone) == ["LEADER_DONE"]
            assert places_of(facts, gone) == []
            assert exited != late_exit

    asyncio.run(scene())


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_stop_loss_is_an_exit_whichever_way_the_book_lists_it_and_its_entry(
    tmp_path: Path, newest_first: bool
) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            stage.exchange.settings = replace(stage.exchange.settings, newest_first=newest_first)
            entry = limit(stage, 91)
            await asyncio.sleep(1.1)
            stop = stage.leader.place("NSE_FNO", "40001", "SELL", 150, "STOP_LOSS", D(84), D(85))
            await stage.follows()
            await stage.until(lambda: len(stage.orders()) == 2, PATIENCE, "both copies")
            facts = await until_sound(stage)
            roles = {each.leader_order_id: each.role for each in facts if isinstance(each, Place)}
            assert roles == {entry: Role.ENTRY, stop: Role.EXIT}
            assert reasons_of(facts, stop) == [], "it waits for its entry to be placed, and is not skipped meanwhile"

            stage.leader.cancel(entry)
            await stage.until(lambda: not any(each.is_open for each in stage.orders()), PATIENCE, "both are cancelled")

    asyncio.run(scene())


def test_what_traded_before_the_start_is_not_entered_however_young(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",), copy="max_age_seconds = 60") as stage:
            bought = market(stage, "BUY", "40001")
            await asyncio.sleep(1.1)
            await stage.follows()
            facts = await until_sound(stage)
            assert reasons_of(facts, bought) == ["LEADER_DONE"]
            sold = market(stage, "SELL", "40001")
            again = market(stage, "BUY", "40002")
            await stage.until(stage.orders, PATIENCE, "what comes now is copied")
            facts = await until_sound(stage)
            assert reasons_of(facts, sold) == ["NOTHING_TO_EXIT"]
            assert [copy.side for copy in copies_of(stage, facts, again)] == ["BUY"]
            assert len(stage.orders()) == 1

    asyncio.run(scene())


def test_two_exits_of_the_time_while_the_process_was_down_leave_the_follower_flat(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            program = await stage.follows()
            market(stage, "BUY", "40001", 300)
            await stage.until(lambda: stage.copied() == 300, PATIENCE, "the position")
            await until_sound(stage)
            await program.killed()

            halves = [market(stage, "SELL", "40001", 150) for _ in range(2)]
            await stage.follows()
            await stage.until(lambda: stage.copied() == 0, PATIENCE, "the late exits")
            facts = await until_sound(stage)
            assert [[(copy.side, copy.filled) for copy in copies_of(stage, facts, half)] for half in halves] == [
                [("SELL", 150)],
                [("SELL", 150)],
            ]

    asyncio.run(scene())


def test_what_happened_while_the_stream_was_away_is_caught_up_from_the_book(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 0") as stage:
            await stage.follows()
            first, second = limit(stage, 91), limit(stage, 92)
            await stage.until(lambda: len(stage.orders()) == 2, PATIENCE, "the copies")
            await until_sound(stage)
            stage.exchange.streams.refuse_handshakes(503, 2)
            stage.exchange.streams.break_off(stage.ids["leader"], Break("reset"))
            await stage.until(lambda: stage.ids["leader"] not in stage.exchange.streams.listeners(), PATIENCE)
            stage.leader.cancel(first)
            stage.leader.modify(second, price=D(88))
            third = limit(stage, 80)
            await stage.until(lambda: len(stage.orders()) == 3, PATIENCE, "caught up")
            facts = await until_sound(stage)
            changes = [fact for fact in facts if isinstance(fact, Cancel | Modify | Place)][2:]
            assert isinstance(changes[0], Cancel), "cancels come first"
            assert [copy.is_open for copy in copies_of(stage, facts, third)] == [True]

    asyncio.run(scene())


def test_a_stream_that_lives_and_is_silent_is_found_out_and_opened_anew(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 1") as stage:
            program = await stage.follows()
            stage.exchange.streams.faults(stage.ids["leader"]).drop = -1
            order_id = limit(stage, 91)
            await stage.until(stage.orders, PATIENCE, "the book tells what the stream does not")
            await program.says("leader: order stream lost: the book shows order", PATIENCE)
            stage.exchange.streams.faults(stage.ids["leader"]).drop = 0
            await stage.until(
                lambda: sum(isinstance(fact, Connected) and fact.account == "leader" for fact in recorded(stage)) == 2,
                PATIENCE,
                "it is opened anew",
            )
            stage.leader.cancel(order_id)
            await stage.until(lambda: not stage.orders()[0].is_open, PATIENCE)
            assert_sound(stage)

    asyncio.run(scene())


def test_a_quiet_stream_is_left_alone(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 1") as stage:
            await stage.follows()
            limit(stage, 91)
            await stage.until(stage.orders, PATIENCE)
            await asyncio.sleep(7)
            assert [fact for fact in recorded(stage) if isinstance(fact, Disconnected)] == []

    asyncio.run(scene())


def test_reconnects_back_off_and_never_end(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 1") as stage:
            await stage.follows()
            stage.exchange.streams.refuse_handshakes(500, 10_000)
            stage.exchange.streams.break_all(Break("close", 1011))
            await asyncio.sleep(6)
            refused = 10_000 - len(stage.exchange.streams._refusals)
            assert 4 <= refused <= 20, "two accounts, each after about 0.5, 1, 2 and 4 s"
            order_id = limit(stage, 91)
            await stage.until(stage.orders, PATIENCE, "the books go on")
            stage.exchange.streams._refusals.clear()
            await stage.until(lambda: len(stage.exchange.streams.listeners()) == 2, PATIENCE, "they come back")
            stage.leader.cancel(order_id)
            await stage.until(lambda: not stage.orders()[0].is_open, PATIENCE)
            await until_sound(stage)

    asyncio.run(scene())


async def holds_two_and_is_killed(stage: Stage) -> None:
    program = await stage.follows()
    for security in ("40002", "40003"):
        market(stage, "BUY", security)
    await stage.until(lambda: stage.copied() == 300, PATIENCE, "the positions")
    await until_sound(stage)
    await program.killed()


def test_a_start_without_the_leader_s_stream_finds_what_it_did_in_the_book(tmp_path: Path) -> None:
    """The handshake is refused for as long as it takes: an exit and the operator's word get through all the same."""

    async def scene() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 1") as stage:
            await holds_two_and_is_killed(stage)
            stage.exchange.streams.refuse_handshakes(503, 10_000)
            program = await stage.follows()
            await program.says("its order stream is down: orders are found in its book", 1)
            market(stage, "SELL", "40002")
            await stage.until(lambda: stage.copied(security_id="40002") == 0, PATIENCE, "the exit")
            halt = await stage.runs("halt", "--flatten")
            assert await halt.ends(PATIENCE) == 0
            assert stage.copied() == 0
            stage.exchange.streams._refusals.clear()
            await program.says("leader: order stream connected", 60)
            await until_sound(stage)

    asyncio.run(scene())


def test_an_account_that_does_not_answer_holds_no_other_up_at_the_start(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1", "1"), copy="poll_seconds = 1") as stage:
            program = await stage.follows()
            market(stage, "BUY", "40002")
            await stage.until(lambda: [stage.copied(name) for name in ("asha", "ravi")] == [150, 150], PATIENCE)
            await until_sound(stage)
            await program.killed()
            hangs = Fault(FaultKind.HANG, stage.ids["ravi"], "GET", count=None, seconds=60)
            stage.exchange.faults.add(hangs)
            await stage.runs("follow")
            market(stage, "SELL", "40002")
            await stage.until(lambda: stage.copied() == 0, 13, "the exit of the one that answers")
            stage.exchange.faults.clear()
            await stage.until(lambda: stage.copied("ravi") == 0, 60, "the other's")
            await until_sound(stage)

    asyncio.run(scene())


def test_instruments_that_take_long_hold_no_exit_up(tmp_path: Path) -> None:
    """Those of another day say enough of what is held; the new ones are taken in when they are there."""

    async def scene() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 1") as stage:
            await holds_two_and_is_killed(stage)
            answers = asyncio.Event()

            async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await answers.wait()
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                writer.close()
                await writer.wait_closed()

            server = await asyncio.start_server(trickle, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            address = {"COPYTRADER_DHAN__INSTRUMENTS_URL": f"http://127.0.0.1:{port}/master.csv"}
            program = await stage.runs("follow", env=address)
            market(stage, "SELL", "40002")
            await stage.until(lambda: stage.copied(security_id="40002") == 0, PATIENCE, "the exit")
            await program.says("they are still being read; going on with the rows of", 1)
            answers.set()
            await program.says("instruments: .*404", PATIENCE)
            assert await program.stops() == 0
            answers.clear()
            halt = await stage.runs("halt", "--flatten", env=address)
            assert await halt.ends(PATIENCE) == 0
            assert stage.copied() == 0
            answers.set()
            server.close()
            await server.wait_closed()
            await asyncio.sleep(0.1)

    asyncio.run(scene())


def lose_the_journal(folder: Path) -> None:
    for file in folder.glob("copytrader.db*"):
        file.unlink()


def of_another_copier(stage: Stage, name: str) -> BookOrder:
    """Let an order rest at a follower that bears our prefix and no name of ours."""
    order_id = stage.exchange.leader(stage.ids[name]).place("NSE_FNO", "40003", "BUY", 75, "LIMIT", D(50))
    order = stage.exchange.orders[order_id]
    order.correlation_id = "ct1-aaaaaaaaaaaaaaaaaaaaa"
    return order


def test_orders_of_another_copier_hold_back_an_account_that_answers_late(tmp_path: Path) -> None:
    """Its book comes when copying has begun: nothing is placed there, and the others go on, after a restart too."""

    async def scene() -> None:
        async with Stage(tmp_path, ("1", "1"), copy="poll_seconds = 1") as stage:
            stray = of_another_copier(stage, "ravi")
            stage.exchange.faults.add(Fault(FaultKind.HANG, stage.ids["ravi"], "GET", count=None, seconds=60))
            program = await stage.runs("follow")
            await program.says("^copying .* to asha; not yet to ravi", PATIENCE)
            market(stage, "BUY", "40002")
            resting = limit(stage, 91)
            await stage.until(lambda: len(stage.orders()) == 2, PATIENCE, "the copies")
            stage.exchange.faults.clear()
            told = await program.says("CRITICAL.*ravi: orders of a copier that this journal does not know", PATIENCE)
            assert stray.order_id in told
            assert "run `copytrader reconcile --adopt` and `copytrader resume --follower ravi`" in told
            market(stage, "SELL", "40002")
            await stage.until(lambda: stage.copied() == 0, PATIENCE, "the exit of the other")
            facts = await until_sound(stage)
            assert reasons_of(facts, resting, "ravi") == ["HALTED"]

            await program.killed()
            program = await stage.follows()
            await program.says("CRITICAL.*ravi: orders of a copier that this journal does not know", PATIENCE)
            stage.leader.cancel(resting)
            await stage.until(lambda: not stage.orders()[1].is_open, PATIENCE, "the other goes on")
            assert stage.requests("ravi") == []

            adopt = await stage.runs("reconcile", "--adopt", "--yes")
            assert await adopt.ends(PATIENCE) == 0, adopt.err
            await stage.until(lambda: not stray.is_open, PATIENCE, "it is ours now")
            resume = await stage.runs("resume", "--follower", "ravi", "--yes")
            assert await resume.ends(PATIENCE) == 0, resume.err
            again = limit(stage, 92)
            await stage.until(lambda: len(stage.orders("ravi")) == 2, PATIENCE, "it is copied to again")
            assert len(copies_of(stage, await until_sound(stage), again, "ravi")) == 1

    asyncio.run(scene())


def test_a_halt_waits_for_the_book_of_an_account_that_is_slow(tmp_path: Path) -> None:
    """The journal is lost: what is to be cancelled stands in the book alone."""

    async def scene() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 1") as stage:
            program = await stage.follows()
            limit(stage, 91)
            await stage.until(stage.orders, PATIENCE)
            await until_sound(stage)
            await program.killed()
            lose_the_journal(tmp_path)
            stage.exchange.faults.add(Fault(FaultKind.HANG, stage.ids["asha"], "GET", "/fundlimit", seconds=8))
            halt = await stage.runs("halt")
            assert await halt.ends(PATIENCE) == 0, halt.err
            assert not stage.orders()[0].is_open, (halt.out, halt.err)

    asyncio.run(scene())

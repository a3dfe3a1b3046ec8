"""The tables of how copying decides, row by row, through the real command and judged by what the broker holds.

Each row trades an instrument of its own, so that one run does for all of them.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

from copytrader.core.facts import Alert
from copytrader.simulator import LEADER_ID, Exchange, Fault, FaultKind
from copytrader.simulator.model import BookOrder, Carried
from tests.e2e.judge import hurried, reasons_of, recorded
from tests.e2e.stage import PATIENCE, Stage

D = Decimal
LOT = 75
ROWS = {  # lots that the leader held before, lots that it trades, lots that the follower trades then
    "40001": (0, (1, 1, 1, -3), (0, 1, 0, -1)),
    "40002": (0, (5, -2, -3), (2, -1, -1)),
    "40003": (10, (4, -14), (2, -2)),
    "40004": (10, (-5,), (0,)),
    "40005": (0, (4, -6, 2), (2, -3, 1)),
}


def furnish(exchange: Exchange) -> None:
    for security_id, (before, _, _) in ROWS.items():
        if before:
            exchange.carry(LEADER_ID, Carried(("NSE_FNO", security_id), "MARGIN", before * LOT, D(100)))
    penniless = exchange.accounts[str(int(LEADER_ID) + 2)]
    penniless.check_margin, penniless.funds = True, D(0)


def test_entries_and_exits_have_the_size_that_the_tables_say(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("0.5", "0.5"), prepare=furnish) as stage:
            await stage.follows()
            traded: dict[str, tuple[int, ...]] = dict.fromkeys(ROWS, ())
            for step in range(4):
                for security_id, (_, lots, _) in ROWS.items():
                    if step < len(lots):
                        side = "BUY" if lots[step] > 0 else "SELL"
                        stage.leader.place("NSE_FNO", security_id, side, abs(lots[step]) * LOT)
                await stage.settles(1.5)
                for security_id in ROWS:
                    change = stage.copied(security_id=security_id) // LOT - sum(traded[security_id])
                    traded[security_id] += (change,)
            assert traded == {each: (*lots, 0, 0, 0)[:4] for each, (_, _, lots) in ROWS.items()}
            assert {order.status for order in stage.orders("ravi")} == {"REJECTED"}
            sold = {order.instrument.security_id for order in stage.orders("ravi") if order.side == "SELL"}
            assert sold == {"40005"}, "who was refused has nothing to exit; what goes beyond zero is an entry"
            assert stage.exchange.violations == []

    asyncio.run(scene())


def test_a_stop_and_a_target_cover_the_copy_each_and_end_together(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("0.5",)) as stage:
            await stage.follows()
            stage.leader.place("NSE_FNO", "40001", "BUY", 300)
            stop = stage.leader.place("NSE_FNO", "40001", "SELL", 300, "STOP_LOSS", D(90), D("90.5"))
            stage.leader.place("NSE_FNO", "40001", "SELL", 300, "LIMIT", D(120))
            await stage.until(lambda: len(stage.orders()) == 3, PATIENCE, "entry, stop and target")
            await stage.settles()
            assert [(order.side, order.terms.quantity) for order in stage.orders()[1:]] == [("SELL", 150)] * 2
            stage.exchange.set_price("NSE_FNO", "40001", D(121))
            stage.leader.cancel(stop)
            await stage.until(lambda: not any(order.is_open for order in stage.orders()), PATIENCE, "both ended")
            await stage.settles(1.5)
            assert [order.status for order in stage.orders()] == ["TRADED", "CANCELLED", "TRADED"]
            assert stage.copied() == 0

    asyncio.run(scene())


def test_what_a_leader_s_order_is_and_becomes_decides_what_each_copy_is(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1", "1"), copy="market_wait_seconds = 1") as stage:
            stage.exchange.accounts[stage.ids["ravi"]].fill_policy = "manual"
            await stage.follows()
            leader = stage.leader

            async def copy(security_id: str, name: str = "asha") -> BookOrder:
                def found() -> list[BookOrder]:
                    orders = [order for order in stage.orders(name) if order.instrument.security_id == security_id]
                    return [order for order in orders[-1:] if order.status != "TRANSIT"]

                await stage.until(found, PATIENCE, f"the copy in {security_id}")
                return found()[0]

            def rests(security_id: str) -> str:
                return leader.place("NSE_FNO", security_id, "BUY", 300, "LIMIT", D(50))

            partly, expired, rejected = rests("40001"), rests("40002"), rests("40003")
            gone, changed, often = rests("40004"), rests("40005"), rests("40006")
            leader.forever_child("NSE_FNO", "40102", "BUY", 65)
            bracket = leader.place("NSE_FNO", "40103", "BUY", 65, "LIMIT", D(50), super_order=True)
            leader.place("NSE_FNO", "40104", "BUY", 65)
            copies = {each: await copy(each) for each in ("40001", "40002", "40003", "40004", "40005", "40006")}

            leader.fill(partly, 75)
            stage.exchange.fill(copies["40001"].order_id, 150)
            await stage.settles()
            assert copies["40001"].is_open, "it stays working"
            leader.cancel(partly)
            leader.expire(expired)
            leader.reject(rejected)
            stage.exchange.fill(copies["40004"].order_id)
            leader.reject(gone)
            for price in range(60, 70):
                leader.modify(changed, price=D(price))
            for price in range(60, 86):
                leader.modify(often, price=D(price))
                await stage.until(lambda price=price: _price_of(stage, "40006") == price, PATIENCE, f"price {price}")  # type: ignore[misc]
            await stage.settles(1.5)

            assert [copies[each].status for each in ("40001", "40002", "40003")] == ["CANCELLED"] * 3
            assert stage.copied(security_id="40001") == 75, "the leader's position justifies 75 of the 150"
            assert stage.copied(security_id="40004") == 0
            alerts = [fact.text for fact in recorded(stage) if isinstance(fact, Alert)]
            assert copies["40005"].terms.price == 69
            assert copies["40005"].modifications <= 3, "ten changes in a second are not ten requests"
            anew = [order for order in stage.orders() if order.instrument.security_id == "40006"]
            assert [(order.status, order.terms.quantity) for order in anew] == [("CANCELLED", 300), ("PENDING", 300)]
            child = await copy("40102")
            assert (child.status, child.filled, child.off_market_flag) == ("TRADED", 65, "0")
            assert [order for order in stage.orders() if order.instrument.security_id == "40103"] == []
            assert reasons_of(recorded(stage), bracket) == ["UNSUPPORTED_KIND"]
            assert [text for text in alerts if bracket in text], alerts
            assert stage.copied(security_id="40104") == 65
            assert (await copy("40104", "ravi")).status == "CANCELLED", "a market entry that rests is given up"
            assert stage.exchange.violations == []

    asyncio.run(scene())


def test_a_market_exit_that_rests_is_priced_anew(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",), copy="market_wait_seconds = 1") as stage:
            await stage.follows()
            stage.leader.place("NSE_FNO", "40001", "BUY", 75)
            await stage.until(lambda: stage.copied() == 75, PATIENCE, "the entry")
            stage.exchange.accounts[stage.ids["asha"]].fill_policy = "manual"
            stage.leader.place("NSE_FNO", "40001", "SELL", 75)
            await stage.until(lambda: len(stage.orders()) == 2, PATIENCE, "the exit")
            [_, out] = stage.orders()
            first = out.terms.price
            await stage.until(lambda: out.terms.price < first, PATIENCE, "a lower price")
            stage.exchange.fill(out.order_id)
            await stage.settles(1.5)
            assert (stage.copied(), len(stage.orders())) == (0, 2)

    asyncio.run(scene())


def _price_of(stage: Stage, security_id: str) -> Decimal:
    return [order.terms.price for order in stage.orders() if order.instrument.security_id == security_id][-1]


def test_a_stop_behind_an_entry_that_never_arrived_opens_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",), **hurried(give_up_after=4)) as stage:
            await stage.follows()
            stage.exchange.script(Fault(FaultKind.CLOSE, stage.ids["asha"], "POST", "/orders", accept=False))
            stage.leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", D(120))
            await stage.until(lambda: len(stage.requests()) == 1, PATIENCE, "the entry, which is lost")
            stage.leader.place("NSE_FNO", "40001", "SELL", 75, "STOP_LOSS", D(98), D(100))
            await stage.settles(1.5)
            stage.exchange.set_price("NSE_FNO", "40001", D(99))
            await stage.settles(6)
            assert [order for order in stage.orders() if order.filled] == []

    asyncio.run(scene())


def test_a_stop_loss_at_the_market_becomes_one_with_a_protective_limit(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            await stage.follows()
            stage.leader.place("NSE_FNO", "40001", "BUY", 75, "STOP_LOSS_MARKET", trigger_price=D(130))
            await stage.settles(2)
            terms = [(order.terms.order_type, order.terms.trigger_price, order.terms.price) for order in stage.orders()]
            assert terms == [("STOP_LOSS", D(130), D("136.5"))]

    asyncio.run(scene())


def test_a_copy_that_filled_though_the_leader_s_order_was_rejected_raises_an_alert(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            await stage.follows()
            order_id = stage.leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", D(50))
            await stage.until(stage.orders, PATIENCE, "the copy")
            await stage.settles()
            stage.exchange.fill(stage.orders()[0].order_id)
            stage.leader.reject(order_id)
            await stage.until(lambda: stage.copied() == 0, PATIENCE, "it is closed again")
            assert [fact for fact in recorded(stage) if isinstance(fact, Alert) and fact.account == "asha"]

    asyncio.run(scene())


def test_a_disclosed_quantity_is_copied_in_proportion(tmp_path: Path) -> None:
    """Frames do not tell it: the copy has it once the leader's book was read."""

    async def scene() -> None:
        async with Stage(tmp_path, ("0.5",), copy="poll_seconds = 1") as stage:
            await stage.follows()
            stage.leader.place("NSE_FNO", "40001", "BUY", 300, "LIMIT", D(50), disclosed_quantity=150)
            await stage.until(lambda: [_disclosed(order) for order in stage.orders()] == [75], PATIENCE, "75 of 150")

    asyncio.run(scene())


def _disclosed(order: BookOrder) -> int:
    return order.terms.disclosed_quantity


def test_validity_and_after_market_are_copied_and_large_orders_are_sliced(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("2",)) as stage:
            await stage.follows()
            stage.exchange.set_price("NSE_FNO", "40001", D(100))
            stage.leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", D(50), validity="IOC")
            await stage.until(lambda: len(stage.orders()) == 1, PATIENCE, "the IOC copy")
            await stage.settles()
            [at_once] = stage.orders()
            assert (at_once.terms.validity, at_once.terms.quantity, at_once.status) == ("IOC", 150, "CANCELLED")

            stage.leader.place("NSE_FNO", "40002", "BUY", 75, "LIMIT", D(50), after_market=True)
            await stage.until(lambda: len(stage.orders()) == 2, PATIENCE, "the after-market copy")
            assert (stage.orders()[1].after_market, stage.orders()[1].terms.quantity) == (True, 150)

            most = stage.exchange.instruments["NSE_FNO", "40003"].freeze_quantity - 1
            large = most // 75 * 75
            stage.leader.place("NSE_FNO", "40003", "BUY", large)
            await stage.until(lambda: stage.copied(security_id="40003") == 2 * large, PATIENCE, "all slices")
            slices = [order.terms.quantity for order in stage.orders() if order.instrument.security_id == "40003"]
            assert slices == [large, large]
            stage.leader.place("NSE_FNO", "40003", "SELL", large)
            await stage.until(lambda: stage.copied(security_id="40003") == 0, PATIENCE, "and out again")
            assert stage.exchange.violations == []

    asyncio.run(scene())


def test_what_was_rounded_off_is_forgotten_when_the_leader_is_flat(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("0.5",)) as stage:
            await stage.follows()
            for side in ("BUY", "SELL", "BUY"):
                stage.leader.place("NSE_FNO", "40001", side, 75)
                await stage.settles()
            assert stage.orders() == []
            stage.leader.place("NSE_FNO", "40001", "BUY", 75)
            await stage.until(lambda: stage.copied() == 75, PATIENCE, "the second half makes a lot")

    asyncio.run(scene())

"""A scripted day with every kind of event, through the real command, and what the simulator's ledger says of it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from copytrader.simulator import LEADER_ID, BookOrder, Exchange
from copytrader.simulator.faults import Fault, FaultKind
from copytrader.simulator.streams import Break
from tests.e2e.stage import Stage

SEGMENT = "NSE_FNO"
CALL, PUT = "40001", "40002"
D = Decimal
HOSTILE = '\x1b]0;owned\x07\x1b[31m<script>alert(1)</script>=HYPERLINK("http://x")\'; DROP TABLE facts;-- \u202eevil'
"""What a broker's message may hold; the words in front of it say what the refusal is about."""


def by_hand(exchange: Exchange) -> None:
    """Nothing fills unless the script says so."""
    for account in exchange.accounts.values():
        account.fill_policy = "manual"


class Day:
    """The leader's day, step by step; each step waits until the followers did their part."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.exchange = stage.exchange
        self.leader = stage.leader
        self.ids: dict[str, str] = {}

    async def play(self) -> None:
        await self.enter()
        await self.carry()
        await self.change_and_cancel()
        await self.too_large()
        await self.refused()
        await self.unanswered()
        await self.throttled()
        await self.unsupported()
        await self.partly_then_cancelled()
        await self.reconnect()
        await self.leave()

    async def enter(self) -> None:
        order_id = self.leader.place(SEGMENT, CALL, "BUY", 150, "LIMIT", D("110"))
        await self._copies(asha=1, ravi=1)
        self.leader.fill(order_id, price=D("110"))
        self._fill_last("asha", D("110.15"))
        self._fill_last("ravi", D("109.95"), 75)
        self._fill_last("ravi", D("110.05"), 75)
        self.ids["entered"] = order_id
        await self.stage.settles()

    async def carry(self) -> None:
        self.ids["carried"] = self.leader.place(SEGMENT, CALL, "BUY", 75, "LIMIT", D("111"))
        await self._copies(asha=1, ravi=2)
        self.leader.fill(self.ids["carried"], price=D("111"))
        self._fill_last("ravi", D("111.10"))
        await self.stage.settles()

    async def change_and_cancel(self) -> None:
        order_id = self.leader.place(SEGMENT, PUT, "BUY", 150, "LIMIT", D("100"))
        await self._copies(asha=2, ravi=3)
        self.leader.modify(order_id, price=D("101"))
        await self._until(lambda: all(self._last(name).terms.price == D("101") for name in ("asha", "ravi")))
        self.leader.cancel(order_id)
        await self._until(lambda: all(self._last(name).status == "CANCELLED" for name in ("asha", "ravi")))
        self.ids["cancelled"] = order_id

    async def too_large(self) -> None:
        order_id = self.leader.place(SEGMENT, PUT, "BUY", 75 * 12, "LIMIT", D("90"))
        await self._copies(asha=3, ravi=3)
        self.leader.cancel(order_id)
        await self._until(lambda: self._last("asha").status == "CANCELLED")
        self.ids["too large"] = order_id

    async def refused(self) -> None:
        ravi = self.stage.ids["ravi"]
        words = f"Insufficient funds. {HOSTILE}"
        self.exchange.script(
            Fault(FaultKind.ERROR, ravi, "POST", "/orders", accept=False, code="DH-906", message=words)
        )
        order_id = self.leader.place(SEGMENT, PUT, "BUY", 150, "LIMIT", D("102"))
        await self._copies(asha=4, ravi=3)
        self.leader.cancel(order_id)
        await self._until(lambda: self._last("asha").status == "CANCELLED")
        self.ids["refused"] = order_id

    async def unanswered(self) -> None:
        self.exchange.script(Fault(FaultKind.RESET, self.stage.ids["asha"], "POST", "/orders"))
        order_id = self.leader.place(SEGMENT, PUT, "BUY", 150, "LIMIT", D("103"))
        await self._copies(asha=5, ravi=4)
        await self.stage.settles()
        self.leader.cancel(order_id)
        await self._until(lambda: all(self._last(name).status == "CANCELLED" for name in ("asha", "ravi")))
        self.ids["unanswered"] = order_id

    async def throttled(self) -> None:
        self.exchange.script(Fault(FaultKind.THROTTLE, self.stage.ids["asha"], "POST", "/orders", accept=False))
        order_id = self.leader.place(SEGMENT, PUT, "BUY", 150, "LIMIT", D("104"))
        await self._copies(asha=6, ravi=5)
        self.leader.cancel(order_id)
        await self._until(lambda: all(self._last(name).status == "CANCELLED" for name in ("asha", "ravi")))
        self.ids["throttled"] = order_id

    async def unsupported(self) -> None:
        self.ids["super"] = self.leader.place(SEGMENT, PUT, "BUY", 150, "LIMIT", D("105"), super_order=True)
        await self.stage.settles()
        self.leader.cancel(self.ids["super"])

    async def partly_then_cancelled(self) -> None:
        order_id = self.leader.place(SEGMENT, PUT, "BUY", 300, "LIMIT", D("106"))
        await self._copies(asha=7, ravi=6)
        self.leader.fill(order_id, 150, D("106"))
        self._fill_last("asha", D("106.20"), 75)
        self._fill_last("ravi", D("106.10"), 150)
        await self.stage.settles()
        self.leader.cancel(order_id)
        await self._until(lambda: all(self._last(name).status == "CANCELLED" for name in ("asha", "ravi")))
        self.ids["partly"] = order_id

    async def reconnect(self) -> None:
        self.exchange.streams.break_off(LEADER_ID, Break("close", 1001))
        await self.stage.settles(1.5)

    async def leave(self) -> None:
        for name, security_id, quantity, price in (("exit call", CALL, 225, "120"), ("exit put", PUT, 150, "95")):
            before = {who: len(self.stage.orders(who)) for who in ("asha", "ravi")}
            order_id = self.leader.place(SEGMENT, security_id, "SELL", quantity, "LIMIT", D(price))
            await self._copies(**{who: count + 1 for who, count in before.items()})
            self.leader.fill(order_id, price=D(price))
            self._fill_last("asha", D(price) - D("0.10"))
            self._fill_last("ravi", D(price))
            self.ids[name] = order_id
            await self.stage.settles()

    def _last(self, name: str) -> BookOrder:
        return self.stage.orders(name)[-1]

    def _fill_last(self, name: str, price: Decimal, quantity: int | None = None) -> None:
        self.exchange.fill(self._last(name).order_id, quantity, price)

    async def _copies(self, **wanted: int) -> None:
        def there() -> bool:
            return all(
                len(self.stage.orders(name)) == count and self._last(name).status != "TRANSIT"
                for name, count in wanted.items()
            )

        await self._until(there)
        await self.stage.settles(0.2)

    async def _until(self, condition: Callable[[], object]) -> None:
        await self.stage.until(condition, 15, "the next step of the day")


def stage_of(folder: Path) -> Stage:
    return Stage(folder, ("0.5", "1"), copy="poll_seconds = 1", limits="max_order_lots = 10", prepare=by_hand)

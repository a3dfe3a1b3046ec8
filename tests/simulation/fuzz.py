"""Mangled messages by the hundred thousand: nothing unexpected happens, nothing is ordered, nothing grows.

`python -m tests.simulation.fuzz --frames 1000000 --bodies 200000`
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections import Counter
from decimal import Decimal
from random import Random
from typing import Any

from copytrader.core.facts import Accepted, Cancel, FrameRefused, Modify, OrderSeen, Place, Role
from copytrader.core.model import (
    IST,
    LEADER,
    OrderType,
    Product,
    Security,
    Side,
    Ticket,
    Validity,
)
from copytrader.dhan.broker import Broker, BrokerError
from copytrader.dhan.fields import MAX_PRICE, MAX_QUANTITY, FrameError
from copytrader.dhan.frames import MAX_FRAME, NotAnOrder, read_frame
from copytrader.dhan.transport import Reply, Request
from tests.simulation.garble import garbled
from tests.simulation.loop import VirtualLoop
from tests.simulation.swarm import Swarm, draw
from tests.simulation.world import LEADER_ID, START, World, listening

FOLLOWER_ID = "1000000002"
_SECURITY = Security("NSE_FNO", "40001")
_TICKET = Ticket(_SECURITY, Side.BUY, Product.MARGIN, OrderType.LIMIT, Validity.DAY, 75, Decimal(95))
_PLACE = Place("f0", "L1", "ct1-aaaaaaaaaaaaaaaaaaaaa", _TICKET, Role.ENTRY)
_MADE_UP = ("which is no order of the leader", "never was")
"""A mangled frame that is still a good one tells of what nobody placed or changed: that it is copied is right."""
_STATUSES = (200, 200, 200, 202, 400, 401, 404, 429, 500, 502)


def calm_world() -> World:
    """A world in which nothing goes wrong, with its copier ready."""
    calm = next(swarm for swarm in map(draw, range(1, 1000)) if swarm.is_calm and not swarm.extras)
    return World(_without_people(calm))


def _without_people(swarm: Swarm) -> Swarm:
    fields = {name: getattr(swarm, name) for name in Swarm.__slots__}
    return Swarm(**fields | {"actions": 0, "on_disk": False, "jitter": 0.001})


def frames_of_a_day() -> list[str]:
    """Good frames of all kinds, as the simulated broker sends them to the leader."""
    world = calm_world()
    found: list[str] = []
    world.exchange.subscribe(LEADER_ID, lambda envelope: found.append(json.dumps(envelope, separators=(",", ":"))))
    leader = world.exchange.leader(LEADER_ID)
    for number in range(3):
        order_id = leader.place("NSE_FNO", "40001", "BUY", 150, "LIMIT", Decimal(95 - number))
        leader.modify(order_id, price=Decimal(94 - number))
        leader.modify_rejected(order_id, price=Decimal(120))
        leader.fill(order_id, 75)
        leader.cancel(order_id)
    leader.place("NSE_FNO", "40001", "SELL", 75, "STOP_LOSS", Decimal(90), Decimal(91))
    leader.place("NSE_FNO", "40001", "SELL", 75, "MARKET")
    leader.forever_child("NSE_FNO", "40001", "BUY", 75)
    leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", Decimal(95), super_order=True)
    leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", Decimal(95), reject="You have insufficient funds")
    return found


def fuzz_reader(count: int, seed: int = 1) -> Counter[str]:
    """Read mangled frames; what cannot be read must say so in its own way, and nothing else may happen."""
    rng, good = Random(f"frames {seed}"), frames_of_a_day()
    seen: Counter[str] = Counter()
    for _ in range(count):
        text = _mangled(rng, good)
        try:
            order = read_frame(text, LEADER_ID)
        except FrameError as error:
            assert len(str(error)) < 500 and str(error).isprintable(), repr(error)
            seen["refused"] += 1
        except NotAnOrder:
            seen["not an order"] += 1
        else:
            _is_plausible(order.ticket, order.filled_quantity)
            seen["read"] += 1
    return seen


def _mangled(rng: Random, good: list[str]) -> str:
    text = rng.choice(good)
    for _ in range(rng.choice((1, 1, 2, 4))):
        text = garbled(text, rng)[: 2 * MAX_FRAME]
    return text


def _is_plausible(ticket: Ticket, filled: int) -> None:
    assert type(ticket.quantity) is int and 0 < ticket.quantity <= MAX_QUANTITY
    assert 0 <= filled <= ticket.quantity
    assert 0 <= ticket.price <= MAX_PRICE and 0 <= ticket.trigger_price <= MAX_PRICE


def fuzz_copier(count: int, seed: int = 1) -> Counter[str]:
    """Send mangled frames through the whole copier: what could not be read decides nothing, and the copier lives."""
    rng, world = Random(f"copier {seed}"), calm_world()
    good = frames_of_a_day()
    seen: Counter[str] = Counter()
    with listening():
        world.begin()
        world.loop.run_until(10)
        assert world.process is not None
        assert world.process.copier.ready.is_set()
        line = world.process.lines[LEADER_ID]
        for number in range(count):
            line._deliver(line._connection, _mangled(rng, good))
            if number % 50 == 0:
                world.loop.run_until(world.loop.time() + 0.5)
        world.loop.run_until(world.loop.time() + 20)
    problems = [text for text in world.problems if not any(words in text for words in _MADE_UP)]
    assert world.process is not None and world.process.alive and not problems, problems
    assert not world.loop.unhandled, world.loop.unhandled
    _nothing_came_of_it(world, seen)
    world.process.die()
    world.loop.run_until(world.loop.time() + 6)
    return seen


def _nothing_came_of_it(world: World, seen: Counter[str]) -> None:
    """Follow the causes: an order goes back to a frame that was read, never to one that was refused."""
    last: object = None
    for _, fact in world.judge.facts:
        if isinstance(fact, FrameRefused):
            seen["refused"] += 1
        if isinstance(fact, OrderSeen) and fact.account == LEADER:
            seen["read"] += 1
        if isinstance(fact, Place | Modify | Cancel):
            assert not isinstance(last, FrameRefused), fact
            seen[type(fact).__name__.lower()] += 1
        else:
            last = fact


class _Answers:
    """A transport that answers whatever it was told to."""

    def __init__(self) -> None:
        self.reply = Reply(200)

    async def send(self, request: Request) -> Reply:
        return self.reply


def bodies_of_a_day() -> list[bytes]:
    """Good answers of every kind that the product reads."""
    world = calm_world()
    exchange, headers = world.exchange, {"access-token": world.tokens[FOLLOWER_ID]}
    fields: dict[str, Any] = {
        "dhanClientId": FOLLOWER_ID,
        "correlationId": _PLACE.correlation_id,
        "transactionType": "BUY",
        "exchangeSegment": "NSE_FNO",
        "productType": "MARGIN",
        "orderType": "LIMIT",
        "validity": "DAY",
        "securityId": "40001",
        "quantity": 75,
        "price": 95.0,
    }
    found = [exchange.request("POST", "/v2/orders", headers, json.dumps(fields).encode()).body]
    world.loop.run_until(2)
    for path in ("orders", f"orders/external/{_PLACE.correlation_id}", "positions", "fundlimit", "profile", "holdings"):
        found.append(exchange.request("GET", f"/v2/{path}", headers).body)
    found.append(exchange.request("POST", "/v2/orders", headers, b"{}").body)
    return found


def fuzz_broker(count: int, seed: int = 1) -> Counter[str]:
    """Give the broker mangled answers: a reading is a value or a `BrokerError`, a command has one of five outcomes."""
    return VirtualLoop().run(_fuzz_broker(count, Random(f"bodies {seed}")))


async def _fuzz_broker(count: int, rng: Random) -> Counter[str]:
    answers, good = _Answers(), bodies_of_a_day()
    broker = Broker(FOLLOWER_ID, answers, lambda: START.astimezone(IST))
    readings = (broker.orders, broker.positions, broker.funds, broker.profile)
    seen: Counter[str] = Counter()
    with listening():
        for _ in range(count):
            text = garbled(rng.choice(good).decode(), rng)
            answers.reply = Reply(rng.choice(_STATUSES), text.encode("utf-8", rng.choice(("replace", "surrogatepass"))))
            outcome = await broker.send(_PLACE)
            seen[type(outcome).__name__] += 1
            if isinstance(outcome, Accepted):
                assert outcome.order_id.isalnum(), outcome
            try:
                await rng.choice(readings)()
                await broker.find(_PLACE.correlation_id)
            except BrokerError:
                seen["unreadable"] += 1
            else:
                seen["read"] += 1
    return seen


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--bodies", type=int, default=200_000)
    parser.add_argument("--copied", type=int, default=20_000, help="frames that go through the whole copier")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    fuzz_reader(20_000, options.seed + 1)
    fuzz_broker(2_000, options.seed + 1)
    before = _memory()
    for what, work, count in (
        ("frames read", fuzz_reader, options.frames),
        ("bodies", fuzz_broker, options.bodies),
        ("frames copied", fuzz_copier, options.copied),
    ):
        began = time.perf_counter()
        seen = work(count, options.seed)
        seconds = time.perf_counter() - began
        sys.stdout.write(f"{what}: {count:,} in {seconds:.0f} s, memory +{_memory() - before} MB, {dict(seen)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""From a frame on the socket to the follower's order, beside a bare loop around the SDK.

    python -m benchmarks.copying            prints a table of microseconds and ratios

Three things are measured, each against its rival in the same run: one follower (frame ->
first byte of the order) beside a loop that reads the socket and calls the SDK, without any
journal, and beside that loop with one write that the disk has confirmed, which no journal can do without; 1, 10 and 50 followers (frame -> last order) beside the SDK in as many threads; and the
cost of the 10th and of the 1,000th order.  The clock that the rate budget sees runs 400 times faster,
because a thousand orders in a minute are more than the broker allows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import aiohttp
from pydantic import SecretStr

from copytrader import sending, session
from copytrader.config import load
from copytrader.copier import Copier
from copytrader.core.engine import step
from copytrader.core.facts import (
    Accepted,
    BookRead,
    Decision,
    Event,
    InstrumentRead,
    OrderSeen,
    Place,
    Source,
    Started,
    Verb,
)
from copytrader.core.model import (
    IST,
    LEADER,
    Calendar,
    CopyRules,
    Desk,
    Follower,
    Instrument,
    Order,
    OrderStatus,
    OrderType,
    Product,
    Security,
    Side,
    Ticket,
    Validity,
)
from copytrader.core.state import State
from copytrader.dhan.master import InstrumentStore
from copytrader.journal import Journal
from copytrader.tokens import Credential

LEADER_ID = "1000000001"
FASTER = 400
COMMITTED = 32 * 1024
"""Bytes that the journal writes for an order: some eight pages of the table and its indexes."""
BEGAN = time.monotonic()
TODAY = datetime.now(IST)


def fast_now() -> datetime:
    return TODAY + timedelta(seconds=(time.monotonic() - BEGAN) * FASTER)


class BrokerProcess:
    """The broker of `benchmarks.broker`, in its own process."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.broker"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ports = json.loads(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    async def measure(self, count: int, followers: list[str], pause: float, sockets: int) -> dict[str, list[float]]:
        order = {"count": count, "followers": followers, "pause": pause, "leader": LEADER_ID, "sockets": sockets}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        found: dict[str, list[float]] = json.loads(await asyncio.to_thread(self._line))
        return found

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def client_ids(count: int) -> list[str]:
    return [str(int(LEADER_ID) + 1 + number) for number in range(count)]


def config_text(ports: dict[str, int], followers: int) -> str:
    lines = [
        f'[dhan]\napi_url = "http://127.0.0.1:{ports["rest"]}/v2"\nauth_url = "http://127.0.0.1:{ports["rest"]}/auth"',
        f'order_update_url = "ws://127.0.0.1:{ports["web"]}/"',
        f'instruments_url = "http://127.0.0.1:{ports["web"]}/master.csv"',
        f'[leader]\nclient_id = "{LEADER_ID}"\naccess_token = "bench-token-leader"',
        '[copy]\nmarket_hours = "off"\npoll_seconds = 0',
    ]
    for number, client_id in enumerate(client_ids(followers)):
        lines.append(f'[followers.f{number}]\nclient_id = "{client_id}"\naccess_token = "bench-token-{number:04}"')
        lines.append(f"[followers.f{number}.limits]\nunlimited = true")
    return "\n".join(lines) + "\n"


@contextlib.asynccontextmanager
async def copier(folder: Path, ports: dict[str, int], followers: int):  # type: ignore[no-untyped-def]
    """The product's own session, with a faster clock, journalling to a file."""
    path = folder / "copytrader.toml"
    path.write_text(config_text(ports, followers))
    path.chmod(0o600)
    config = load(path, env={})
    tokens = {name: Credential(SecretStr(f"bench-token-{name}")) for name in (LEADER, *config.enabled)}
    with closing(Journal.open(config.journal)) as journal, closing(InstrumentStore(config.instruments_path)) as store:
        await store.sync(config.dhan.instruments_url, TODAY.date())
        async with session.connected(config, tokens) as accounts:
            made = Copier(
                journal=journal,
                facts=(),
                desk=config.desk(Calendar()),
                accounts=accounts,
                instrument=store.get,
                now=fast_now,
                poll_seconds=0,
            )
            stop = asyncio.Event()
            gc.collect()
            gc.freeze()
            running = asyncio.ensure_future(made.run(stop))
            await made.ready.wait()
            await asyncio.gather(*(account.broker.profile() for account in accounts.values()))
            yield made
            stop.set()
            await running


def sdk(ports: dict[str, int], client_id: str):  # type: ignore[no-untyped-def]
    from dhanhq import DhanContext, dhanhq

    client = dhanhq(DhanContext(client_id, "bench-token-bare"))
    client.dhan_http.base_url = f"http://127.0.0.1:{ports['rest']}/v2"
    return client


async def bare_loop(ports: dict[str, int], followers: int, stop: asyncio.Event) -> None:
    """What one writes in an afternoon: read the socket, call the SDK, in threads when there are several."""

    def place(client, terms) -> None:  # type: ignore[no-untyped-def]  # the SDK has no types
        client.place_order(*terms, tag="bare-loop")

    clients = [sdk(ports, client_id) for client_id in client_ids(followers)]
    pool = ThreadPoolExecutor(followers)
    async with aiohttp.ClientSession() as web, web.ws_connect(f"http://127.0.0.1:{ports['web']}/") as socket:
        login = {"LoginReq": {"MsgCode": 42, "ClientId": LEADER_ID, "Token": "bench"}, "UserType": "SELF"}
        await socket.send_str(json.dumps(login))
        while not stop.is_set():
            try:
                message = await asyncio.wait_for(socket.receive(), 0.5)
            except TimeoutError:
                continue
            if message.type is not aiohttp.WSMsgType.TEXT:
                return
            data = json.loads(message.data)["Data"]
            if data["status"] != "Pending":
                continue
            side = "BUY" if data["txnType"] == "B" else "SELL"
            terms = (data["securityId"], "NSE_FNO", side, data["quantity"], "LIMIT", "MARGIN", data["price"])
            if followers == 1:
                place(clients[0], terms)
            else:
                list(pool.map(place, clients, [terms] * followers))


async def ours(broker: BrokerProcess, followers: int, count: int, pause: float) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        async with copier(Path(folder), broker.ports, followers):
            return await broker.measure(count, client_ids(followers), pause, followers + 1)


async def theirs(broker: BrokerProcess, followers: int, count: int, pause: float) -> dict[str, list[float]]:
    stop = asyncio.Event()
    running = asyncio.ensure_future(bare_loop(broker.ports, followers, stop))
    found = await broker.measure(count, client_ids(followers), pause, 1)
    stop.set()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return found


class Day:
    """A day of one follower, in the engine and a journal, order by order."""

    def __init__(self, path: Path) -> None:
        self._row = Instrument(Security("NSE_FNO", "40001"), "NIFTY", 75, Decimal("0.05"))
        desk = Desk(LEADER_ID, (Follower("f0", client_ids(1)[0]),), CopyRules(enforce_hours=False))
        self._journal = Journal.open(path)
        self._state, self._at, self._orders = State(), TODAY, 0
        for event in (
            Started(TODAY, "", "", desk),
            InstrumentRead(TODAY, self._row),
            BookRead(TODAY, "f0", (), ()),
            BookRead(TODAY, LEADER, (), ()),
        ):
            self._take(event)

    def next(self) -> float:
        """Let the leader place one more order and cancel it; return microseconds of engine and journal for its first frame."""
        self._at += timedelta(seconds=9)
        self._orders += 1
        terms = Ticket(self._row.security, Side.BUY, Product.MARGIN, OrderType.LIMIT, Validity.DAY, 75, Decimal(100))
        order = Order(str(self._orders), terms, OrderStatus.PENDING, self._at, self._at)
        began = time.perf_counter_ns()
        decisions = self._take(OrderSeen(self._at, LEADER, order, Source.STREAM))
        cost = (time.perf_counter_ns() - began) / 1000
        (place,) = [each for each in decisions if isinstance(each, Place)]
        self._take(Accepted(self._at, "f0", place.correlation_id, Verb.PLACE, f"F{order.order_id}"))
        dead = replace(order, status=OrderStatus.CANCELLED)
        copy = replace(dead, order_id=f"F{order.order_id}", correlation_id=place.correlation_id)
        self._take(OrderSeen(self._at, LEADER, dead, Source.STREAM))
        self._take(OrderSeen(self._at, "f0", copy, Source.STREAM))
        return cost

    def _take(self, event: Event) -> tuple[Decision, ...]:
        self._state, decisions = step(self._state, event)
        self._journal.record(event, decisions)
        return decisions


def growth(count: int = 1000, turns: int = 30) -> tuple[float, float]:
    """Microseconds for the orders around the 10th and around the last: a new day and a long one, by turns.

    One after the other would compare two moods of the machine.
    """
    early, late = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        long = Day(Path(folder) / "long.db")
        for _ in range(count - turns):
            long.next()
        for turn in range(turns):
            fresh = Day(Path(folder) / f"fresh{turn}.db")
            for _ in range(8):
                fresh.next()
            early += [fresh.next(), fresh.next(), fresh.next()]
            late += [long.next(), long.next(), long.next()]
    return statistics.median(early), statistics.median(late)


def disk(writes: int = 300, pause: float = 0.012) -> float:
    """Microseconds until the disk has confirmed a write as large as that of an order, in the middle of 300."""
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(writes):
            time.sleep(pause)
            began = time.perf_counter_ns()
            os.pwrite(file.fileno(), os.urandom(COMMITTED), 0)
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(taken)


def median_and_p99(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return statistics.median(ordered), ordered[int(len(ordered) * 0.99) - 1]


sending.HELD_UP *= FASTER


async def main(frames: int, bursts: int) -> None:
    logging.disable(logging.CRITICAL)
    broker = BrokerProcess()
    try:
        print(f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}")
        bare = median_and_p99((await theirs(broker, 1, frames, 0.012))["first"])
        copied = median_and_p99((await ours(broker, 1, frames, 0.012))["first"])
        print(f"one follower, {frames} frames     copytrader {copied[0]:7.0f} us  p99 {copied[1]:7.0f} us")
        print(
            f"  the bare loop            {'':10} {bare[0]:7.0f} us  p99 {bare[1]:7.0f} us   ratio {copied[0] / bare[0]:.2f}"
        )
        confirmed = disk()
        print(
            f"  the same and one write {'':12} {bare[0] + confirmed:7.0f} us  {'':14} ratio {copied[0] / (bare[0] + confirmed):.2f}"
        )
        for followers in (1, 10, 50):
            rival = statistics.median((await theirs(broker, followers, bursts, 0.1))["last"])
            mine = statistics.median((await ours(broker, followers, bursts, 0.1))["last"])
            print(
                f"{followers:3} followers, to the last  copytrader {mine:7.0f} us  threads {rival:7.0f} us   ratio {mine / rival:.2f}"
            )
        early, late = growth()
        print(f"engine and journal: 10th order {early:.0f} us, 1,000th {late:.0f} us, ratio {late / early:.2f}")
    finally:
        broker.end()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--frames", type=int, default=1000)
    options.add_argument("--bursts", type=int, default=30)
    chosen = options.parse_args()
    asyncio.run(main(chosen.frames, chosen.bursts))

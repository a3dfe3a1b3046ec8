"""Between the product and the broker: requests and frames that are late, lost, doubled, mangled.

`Wire` stands where the HTTP transport stands, under the real `dhan.Broker`; `Line` where
the order-update socket stands.  What a process has written to the network lives on when
the process dies; what comes back to a dead process is lost.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Self

from copytrader.dhan.stream import Frame, LoggedIn, Lost, StreamEvent
from copytrader.dhan.transport import Later, Reply, Request, is_allowed, without_secret
from copytrader.simulator import Break, Fault, FaultKind, Response
from copytrader.simulator.streams import Envelope
from tests.simulation.garble import broken

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

READ_TIMEOUT = 10.0
_NO_ANSWER = frozenset({FaultKind.RESET, FaultKind.CLOSE, FaultKind.TRUNCATED})
_DEFINITE = (
    ("DH-905", 400, "Missing required fields, bad values for parameters etc."),
    ("DH-906", 400, "You have insufficient funds. Please add Rs.23.70 to trade."),
    ("DH-906", 400, "Incorrect request for order and cannot be processed"),
    ("DH-903", 400, "Segment is not activated"),
)


@dataclass(frozen=True, slots=True)
class Journey:
    """What will become of one request: drawn before it leaves, so that nothing else can change the draw."""

    connects: bool
    out: float
    back: float
    survives: bool
    fault: Fault | None


class Wire:
    """One account's way to the broker, of one process."""

    def __init__(self, world: World, process: Process, client_id: str) -> None:
        self._world = world
        self._process = process
        self._client_id = client_id

    def send(self, request: Request) -> Awaitable[Reply]:
        """Send at once, as the real one does where a connection is ready."""
        self._process.must_live()
        world, token = self._world, self._process.tokens[self._client_id]
        if not is_allowed(request):
            world.problem(f"a request outside the allow-list: {request.method} {request.path}")
            return Later(self._fail, 0, "refused by our own guard: not an allowed request")
        world.judge.leaves(request)
        journey = plan(world, self._client_id, request, token)
        if not journey.connects:
            world.counts["no_connection"] += 1
            return Later(self._fail, journey.out, "no connection: refused")
        answer: asyncio.Future[Reply] = world.loop.create_future()
        world.loop.call_later(journey.out, self._arrive, request, token, journey, answer)
        if request.method != "GET":
            self._process.at("in_flight")
        world.loop.call_later(READ_TIMEOUT, _settle, answer, _nothing("time ran out"))
        return Later(self._wait, request, answer)

    async def _fail(self, seconds: float, detail: str) -> Reply:
        await asyncio.sleep(seconds)
        return Reply(None, sent=False, detail=detail)

    async def _wait(self, request: Request, answer: asyncio.Future[Reply]) -> Reply:
        reply = await answer
        if request.method != "GET":
            self._process.at("answer")
        return reply

    def _arrive(self, request: Request, token: str, journey: Journey, answer: asyncio.Future[Reply]) -> None:
        world = self._world
        if not self._process.alive and not journey.survives:
            world.counts["died_half_written"] += 1
            return
        world.judge.arrives(self._client_id, request)
        if journey.fault is not None:
            world.exchange.script(journey.fault)
            world.counts[f"fault {journey.fault.kind}"] += 1
        headers = {"access-token": token, "client-id": self._client_id}
        response = world.exchange.request(request.method, f"/v2{request.path}", headers, request.body or b"")
        world.exchange.faults.clear()
        self._answer(request, response, token, journey, answer)

    def _answer(
        self, request: Request, response: Response, token: str, journey: Journey, answer: asyncio.Future[Reply]
    ) -> None:
        world, fault = self._world, response.fault
        delay = journey.back
        reply = Reply(response.status, without_secret(response.body, token.encode()))
        if fault is not None:
            if fault.kind in _NO_ANSWER or (fault.kind is FaultKind.LATE and not fault.status):
                reply = _nothing("the server closed the connection")
            if fault.kind is FaultKind.HANG:
                if fault.seconds is None:
                    return
                delay += fault.seconds
        if request.method != "GET":
            world.judge.answered(self._client_id, request, reply, fault)
        world.loop.call_later(delay, _settle, answer, reply)


def _settle(answer: asyncio.Future[Reply], reply: Reply) -> None:
    if not answer.done():
        answer.set_result(reply)


def _nothing(why: str) -> Reply:
    return Reply(None, detail=f"the request was sent, no whole answer came: {why}")


def plan(world: World, client_id: str, request: Request, token: str) -> Journey:
    swarm, rng = world.swarm, world.chance["network"]
    out = swarm.latency + rng.random() * swarm.jitter
    back = swarm.latency + rng.random() * swarm.jitter
    survives = rng.random() < 0.7
    fails, first, second, third = rng.random(), rng.random(), rng.random(), rng.random()
    if not world.troubled:
        return Journey(True, 0.005, 0.005, True, None)
    connects = not ("no_connection" in swarm.extras and first < 0.15)
    if request.method == "GET":
        rate, kinds = swarm.read_fault_rate, sorted(swarm.read_faults)
        if request.path == "/profile":
            kinds = [kind for kind in kinds if kind is not FaultKind.WRONG_CLIENT]
    else:
        rate, kinds = swarm.order_fault_rate, sorted(swarm.order_faults)
        if request.method != "POST":
            kinds = [kind for kind in kinds if kind not in (FaultKind.REJECTED, FaultKind.HIDE)]
    fault = None
    if kinds and fails < rate:
        fault = _fault(Random(third), kinds[int(second * len(kinds))], client_id, request, token)
    elif "refusal" in swarm.extras and request.method != "GET" and fails > 0.9:
        code, status, message = _DEFINITE[int(second * len(_DEFINITE))]
        world.counts["refusal"] += 1
        fault = Fault(FaultKind.ERROR, client_id, accept=False, code=code, status=status, message=message)
    return Journey(connects, out, back, survives, fault)


def _fault(rng: Random, kind: FaultKind, client_id: str, request: Request, token: str) -> Fault:
    """One scripted fault for the request that is about to arrive."""
    accept = rng.random() < 0.6
    match kind:
        case FaultKind.HANG:
            return Fault(kind, client_id, accept=accept, seconds=rng.choice((None, 3.0, 12.0)))
        case FaultKind.LATE:
            seconds = rng.choice((0.2, 3.0, 30.0, 130.0))
            return Fault(kind, client_id, seconds=seconds, status=rng.choice((0, 504)))
        case FaultKind.ERROR:
            code, status = rng.choice((("DH-908", 500), ("DH-910", 500), ("DH-908", 400), ("DH-909", 400)))
            return Fault(kind, client_id, accept=accept, code=code, status=status)
        case FaultKind.BODY:
            body, status = rng.choice(_BODIES)
            return Fault(kind, client_id, accept=accept, status=status, body=body.replace("TOKEN", token))
        case FaultKind.REJECTED | FaultKind.REJECT_LATER:
            words = ("", "Order Price needs to be Circuit Limits of 1 to 2", "Your account is blocked")
            return Fault(kind, client_id, message=rng.choice(words))
        case FaultKind.HIDE:
            where, seconds = rng.choice(("both", "lookup", "book")), rng.choice((1.0, 10.0))
            return Fault(kind, client_id, seconds=seconds, where=where)
        case FaultKind.GATEWAY:
            return Fault(kind, client_id, accept=accept, status=rng.choice((502, 503, 504)))
        case _:
            return Fault(kind, client_id, accept=accept)


_BODIES = (
    ('{"errorType":"x","errorCode":"DH-908","errorMessage":"token TOKEN is odd"}', 500),
    ('{"orderId":"../positions","orderStatus":"TRANSIT"}', 200),
    ('{"orderId":null}', 200),
    ("[]", 200),
    ("null", 200),
    ('{"orderId":NaN}', 200),
    ("[" * 5000, 200),
    ("\ud83d".encode("utf-8", "replace").decode() * 3, 400),
    ('{"status":"success","data":{}}', 202),
)


class Line:
    """One account's order-update socket, of one process: log in, hand on frames, come back after every loss."""

    def __init__(self, world: World, process: Process, client_id: str) -> None:
        self._world = world
        self._process = process
        self._client_id = client_id
        self._events: deque[StreamEvent] = deque()
        self._more = asyncio.Event()
        self._connection = 0
        self._failures = 0
        self._stop_listening: Any = None
        self._opened = False
        self._muted_until = 0.0
        self._held: list[str] = []
        self._early: list[str] | None = None

    def listen(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        while not self._events:
            if self._opened:
                self._more.clear()
                await self._more.wait()
            else:
                await self._open()
        return self._events.popleft()

    def force_reconnect(self, reason: str) -> None:
        self._world.counts["forced_reconnect"] += 1
        self.lose(reason)

    def lose(self, detail: str) -> None:
        """The socket is gone; what it had received before is still read."""
        if not self._opened:
            return
        self.close()
        self._tell(Lost(detail))

    def close(self) -> None:
        self._opened = False
        self._connection += 1
        self._held.clear()
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None

    async def _open(self) -> None:
        world = self._world
        rng = world.chance["stream"]
        if self._failures or self._connection:
            await asyncio.sleep(min(30.0, 0.5 * 2.0 ** min(self._failures, 10)) * rng.uniform(0.5, 1))
        await asyncio.sleep(world.swarm.latency)
        if world.strikes("stream", "refused"):
            self._fail("Dhan refused the connection with status 401")
            return
        token = self._process.tokens[self._client_id]
        login = {"LoginReq": {"MsgCode": 42, "ClientId": self._client_id, "Token": token}, "UserType": "SELF"}
        if world.exchange.login(json.dumps(login)) is None:
            self._fail("the connection broke right after the login, as with a wrong or expired access token")
            return
        self._connection += 1
        self._opened = True
        self._failures = 0
        self._early = early = list[str]()
        self._stop_listening = world.exchange.subscribe(self._client_id, self._on_frame, self._on_raw, self._on_break)
        await asyncio.sleep(0.05)
        self._early = None
        if self._opened:
            self._tell(LoggedIn())
            self._events.extend(Frame(text) for text in early)

    def _fail(self, detail: str) -> None:
        self._failures += 1
        self._tell(Lost(detail))

    def _tell(self, event: StreamEvent) -> None:
        self._events.append(event)
        self._more.set()

    def _on_frame(self, envelope: Envelope) -> None:
        self._receive(json.dumps(envelope, separators=(",", ":")))

    def _on_raw(self, message: str | bytes) -> None:
        self._receive(message if isinstance(message, str) else message.decode("utf-8", "replace"))

    def _on_break(self, how: Break) -> None:
        self.lose(f"the connection was closed with code {how.code}")

    def _receive(self, text: str) -> None:
        """One frame as the broker sends it: it may be lost, late, doubled, mangled, or the last of this socket."""
        world, rng = self._world, self._world.chance["stream"]
        delay = world.swarm.latency + rng.random() * 0.01
        if world.loop.time() < self._muted_until or world.strikes("stream", "drop"):
            return
        if world.strikes("stream", "silent", 0.1):
            self._muted_until = world.loop.time() + rng.choice((3.0, 60.0))
            return
        if world.strikes("stream", "half_open", 0.1):
            self._muted_until = world.loop.time() + 30.0
            world.loop.call_later(30.0, self._die, self._connection, "the connection is dead: no answer to a ping")
            return
        if world.strikes("stream", "lost", 0.2):
            self.lose("the connection broke")
            return
        if world.strikes("stream", "delay"):
            delay += rng.choice((0.5, 3.0, 20.0))
        if world.strikes("stream", "duplicate"):
            world.loop.call_later(delay + rng.random() * 3, self._deliver, self._connection, text)
        if world.strikes("stream", "corrupt"):
            text = broken(text, rng)
        if world.strikes("stream", "foreign"):
            other = text.replace(f'"clientId":"{self._client_id}"', '"clientId":"1999999999"')
            other = other.replace('"orderNo":"3', '"orderNo":"9')
            world.loop.call_later(delay, self._deliver, self._connection, other)
        if world.strikes("stream", "reorder"):
            self._held.append(text)
            world.loop.call_later(delay + 1, self._release, self._connection)
            return
        world.loop.call_later(delay, self._deliver, self._connection, text)

    def _die(self, connection: int, detail: str) -> None:
        if connection == self._connection:
            self.lose(detail)

    def _release(self, connection: int) -> None:
        held, self._held = self._held, []
        for text in reversed(held):
            self._deliver(connection, text)

    def _deliver(self, connection: int, text: str) -> None:
        if connection != self._connection or not self._opened:
            return
        secret = self._process.tokens[self._client_id].encode()
        text = without_secret(text.encode("utf-8", "replace"), secret).decode("utf-8", "replace")
        if self._early is not None:
            self._early.append(text)
        else:
            self._tell(Frame(text))

"""One account at Dhan: commands in, facts out; books, positions and funds as values.

A reading that fails raises.  It is never an empty book and never a flat position,
because what is unknown must not look like nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TypeVar

from copytrader.core.exposure import DELIVERED
from copytrader.core.facts import Command, Modify, NotSent, Place
from copytrader.core.model import Funds, Order, Position, Product, RefusalClass, Security, Ticket
from copytrader.dhan import bodies, fields, requests
from copytrader.dhan.answers import (
    Complaint,
    Outcome,
    outcome,
    read_complaint,
    verb_of,
)
from copytrader.dhan.refusals import classify_refusal, explain
from copytrader.dhan.transport import Later, Reply, Request, Transport
from copytrader.failure import ExitCode, Failure

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class BrokerError(Failure):
    """Dhan did not give what was asked for; the text says why and holds no secret."""


class TokenError(BrokerError):
    """Dhan does not accept the account's token or the address it is used from."""

    code = ExitCode.TOKEN

    def __init__(self, detail: str, refusal: RefusalClass = RefusalClass.TOKEN) -> None:
        super().__init__(detail)
        self.refusal = refusal

    @property
    def cause(self) -> str:
        """What Dhan said, without the remedy, as a part of a sentence."""
        return str(self).removesuffix(explain(self.refusal)).rstrip(". ")


class Broker:
    """One account, over any transport.

    `clock_offset` is Dhan's clock minus ours as the last answer showed it (to about a
    second), None before the first.  `holdings_problem` says why the last `positions`
    came without holdings, "" where they are included.
    """

    def __init__(self, client_id: str, transport: Transport, clock: Callable[[], datetime]) -> None:
        requests.load()
        self.client_id = client_id
        self.clock_offset: timedelta | None = None
        self.holdings_problem = ""
        self._transport = transport
        self._clock = clock
        self._book_read: bytes | None = None
        self._book: tuple[tuple[Order, ...], tuple[str, ...]] = (), ()

    def send(self, command: Command) -> Awaitable[Outcome]:
        """Sends the command once, at once where a connection is ready; what is returned tells what the reply proves."""
        try:
            request = self._request(command)
        except ValueError as error:
            return Later(self._unsent, command, str(error))
        return Later(self._outcome, command, self._clock(), self._transport.send(request))

    async def _unsent(self, command: Command, why: str) -> Outcome:
        return NotSent(self._clock(), command.account, command.correlation_id, verb_of(command), why)

    async def _outcome(self, command: Command, began: datetime, answer: Awaitable[Reply]) -> Outcome:
        return outcome(command, await self._noted(began, answer), self._clock())

    async def orders(self) -> tuple[tuple[Order, ...], tuple[str, ...]]:
        """Today's order book, and a line for each row that cannot be read.

        An answer that is the last one to the byte is not read anew: 500 orders take 15 ms, in which nothing is copied.
        """
        reply = await self._exchange(requests.orders())
        if reply.status != 200 or reply.body != self._book_read:
            body = _body(reply)
            self._book = self._parsed("order book", lambda: bodies.read_orders(body, self.client_id))
            self._book_read = reply.body
        return self._book

    async def order(self, order_id: str) -> Order | None:
        """One order by its id; None where the book does not have it."""
        body = await self._read(requests.order(order_id))
        found = self._parsed("order", lambda: bodies.read_order(body, self.client_id))
        if found is not None and found.order_id != order_id:
            raise BrokerError("order: Dhan answered with another order")
        return found

    async def find(self, correlation_id: str) -> Order | None:
        """The order that bears our name for it; None proves little: Dhan misses orders in transit."""
        reply = await self._exchange(requests.by_correlation(correlation_id))
        complaint = _complaint(reply)
        if reply.status == 404 and complaint.code == "DH-906" and not _is_access(reply, complaint):
            return None
        body = _body(reply)
        found = self._parsed("look-up", lambda: bodies.read_order(body, self.client_id))
        if found is not None and found.correlation_id != correlation_id:
            raise BrokerError("look-up: Dhan answered with another order")
        return found

    async def trades(self) -> tuple[tuple[bodies.Trade, ...], tuple[str, ...]]:
        """Today's fills, and a line for each row that cannot be read."""
        body = await self._read(requests.trades())
        return self._parsed("trade book", lambda: bodies.read_trades(body))

    async def positions(self) -> tuple[Position, ...]:
        """Net positions, shares in the demat account added to CNC.

        What is delivered and not named there is not `whole`: the account shows the day's trades alone.
        """
        positions, holdings = await asyncio.gather(self._positions(), self._holdings())
        return _with_holdings(positions, holdings)

    async def funds(self) -> Funds:
        body = await self._read(requests.funds())
        return self._parsed("funds", lambda: bodies.read_funds(body))

    async def profile(self) -> bodies.Profile:
        body = await self._read(requests.profile())
        return self._parsed("profile", lambda: bodies.read_profile(body))

    async def ip(self) -> bodies.IpSettings:
        body = await self._read(requests.ip())
        return self._parsed("static IP", lambda: bodies.read_ip(body))

    async def margin(self, ticket: Ticket) -> bodies.Margin:
        """What the ticket would cost."""
        try:
            request = requests.margin(self.client_id, ticket)
        except ValueError as error:
            raise BrokerError(f"margin: {error}") from None
        body = await self._read(request)
        return self._parsed("margin", lambda: bodies.read_margin(body))

    def _request(self, command: Command) -> Request:
        if isinstance(command, Place):
            return requests.place(self.client_id, command.ticket, command.correlation_id)
        if isinstance(command, Modify):
            return requests.modify(self.client_id, command.order_id, command.ticket)
        return requests.cancel(command.order_id)

    async def _exchange(self, request: Request) -> Reply:
        return await self._noted(self._clock(), self._transport.send(request))

    async def _noted(self, began: datetime, answer: Awaitable[Reply]) -> Reply:
        reply = await answer
        self._note_clock(reply, began, self._clock())
        return reply

    def _note_clock(self, reply: Reply, before: datetime, after: datetime) -> None:
        """Dhan's Date header has whole seconds, so its clock stood half a second later on average."""
        try:
            theirs = parsedate_to_datetime(reply.headers["date"])
        except (KeyError, ValueError, TypeError, OverflowError):
            return
        if theirs.tzinfo is None:
            theirs = theirs.replace(tzinfo=UTC)
        self.clock_offset = theirs + timedelta(seconds=0.5) - (before + (after - before) / 2)

    async def _read(self, request: Request) -> object:
        return _body(await self._exchange(request))

    def _parsed(self, what: str, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except fields.FrameError as error:
            raise BrokerError(f"{what}: {error}") from None

    async def _positions(self) -> tuple[Position, ...]:
        body = await self._read(requests.positions())
        return self._parsed("positions", lambda: bodies.read_positions(body, self.client_id))

    async def _holdings(self) -> tuple[Position, ...]:
        """Shares in the demat account; none, and a `holdings_problem`, where Dhan does not tell."""
        reply = await self._exchange(requests.holdings())
        problem = ""
        holdings: tuple[Position, ...] = ()
        # Dhan reports an empty demat account as an internal error.
        if _complaint(reply).code != "DH-1111":
            try:
                body = _body(reply)
                holdings = self._parsed("holdings", lambda: bodies.read_holdings(body))
            except TokenError:
                raise
            except BrokerError as error:
                problem = str(error)
        if problem and problem != self.holdings_problem:
            _log.warning("client %s: positions without holdings: %s", self.client_id, problem)
        self.holdings_problem = problem
        return holdings


def _complaint(reply: Reply) -> Complaint:
    try:
        return read_complaint(fields.parse_body(reply.body))
    except fields.FrameError:
        return Complaint()


def _is_access(reply: Reply, complaint: Complaint) -> bool:
    refusal = classify_refusal(reply.status, complaint.code, complaint.message)
    return refusal in (RefusalClass.TOKEN, RefusalClass.IP)


def _body(reply: Reply) -> object:
    """The JSON of a good answer; anything else raises."""
    if reply.status is None:
        raise BrokerError(reply.detail)
    complaint = _complaint(reply)
    words = " ".join(part for part in (complaint.code, complaint.message) if part)
    if not 200 <= reply.status < 300:
        detail = f"Dhan answered with status {reply.status}" + (f": {words}" if words else "")
        if 400 <= reply.status < 500 and _is_access(reply, complaint):
            refusal = classify_refusal(reply.status, complaint.code, complaint.message)
            raise TokenError(f"{detail.rstrip('.')}. {explain(refusal)}", refusal)
        raise BrokerError(detail)
    try:
        return fields.parse_body(reply.body)
    except fields.FrameError as error:
        raise BrokerError(f"Dhan's answer cannot be read: {error}") from None


def _with_holdings(positions: tuple[Position, ...], holdings: tuple[Position, ...]) -> tuple[Position, ...]:
    merged = {_key(each): replace(each, whole=each.product not in DELIVERED) for each in positions}
    for holding in holdings:
        before = merged.get(_key(holding))
        held = holding.net_quantity + (before.net_quantity if before is not None else 0)
        merged[_key(holding)] = replace(before or holding, net_quantity=held, whole=True)
    return tuple(merged.values())


def _key(position: Position) -> tuple[Security, Product]:
    return position.security, position.product

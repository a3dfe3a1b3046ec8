"""The broker and the exchange behind it, in one synchronous, deterministic object.

No sockets, no threads, no randomness, no clock of its own: time comes from `clock`, and
what is due later waits in `agenda` until somebody calls `run_due`.  Everything goes
through here: requests (`request`), scripted traders and prices, and the streams that
tell of it.  What happened is in `ledger`; what should not have happened in `violations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from copytrader.simulator import checks, matching, portfolio, rest, wire
from copytrader.simulator.agenda import Agenda
from copytrader.simulator.faults import Fault, Faults, Response, Treatment
from copytrader.simulator.ledger import Ledger, Violation
from copytrader.simulator.limits import RateLimiter
from copytrader.simulator.mirror import mirror
from copytrader.simulator.model import (
    CANCELLED,
    EXPIRED,
    PART_TRADED,
    PENDING,
    REJECTED,
    TRADED,
    TRANSIT,
    ZERO,
    Account,
    BookOrder,
    Carried,
    Fill,
    Holding,
    Instrument,
    Placement,
    Security,
    Terms,
)
from copytrader.simulator.streams import Break, Envelope, Streams, envelope_of
from copytrader.simulator.trader import AppTrader


@dataclass(frozen=True, slots=True)
class Settings:
    """How this broker behaves where the real one varies or is not known.

    `transit_seconds`: between an answer and its effect.  `triggered_as_limit`: a triggered stop
    loss stands in the book as the limit order that its frames show.  `average_on_pending`: the
    Pending frame of an API order that fills at once tells its average.  `lookup_as_list`: the
    look-up by correlation id answers a list.  `newest_first`: so the order book lists its rows.
    `read_limit`: reads per second, None for any.
    """

    transit_seconds: float = 0.005
    market_open: bool = True
    triggered_as_limit: bool = True
    average_on_pending: bool = True
    lookup_as_list: bool = False
    newest_first: bool = False
    cancel_status: int = 200
    foreign_peer_code: str = "DH-905"
    read_limit: int | None = None


class Exchange:
    def __init__(self, clock: Callable[[], datetime], settings: Settings | None = None) -> None:
        self.clock = clock
        self.agenda = Agenda(clock)
        self.streams = Streams(self.agenda)
        self._first_settings = settings or Settings()
        self._clear()

    def _clear(self) -> None:
        self.settings = self._first_settings
        self.ledger = Ledger()
        self.violations: list[Violation] = []
        self.faults = Faults()
        self.accounts: dict[str, Account] = {}
        self.instruments: dict[Security, Instrument] = {}
        self.prices: dict[Security, Decimal] = {}
        self.orders: dict[str, BookOrder] = {}
        self.fills: dict[str, list[Fill]] = {}
        self.limiters: dict[str, RateLimiter] = {}
        self._read_limiters: dict[tuple[str, int], RateLimiter] = {}
        self._books: dict[str, list[BookOrder]] = {}
        self._open: dict[str, BookOrder] = {}
        self._by_correlation_id: dict[tuple[str, str], list[BookOrder]] = {}
        self._numbers = 0

    def reset(self) -> None:
        """An empty world again; connected streams are closed."""
        self.agenda.clear()
        self.streams.break_all(Break("close", 1001))
        self.streams.clear()
        self._clear()

    # The world

    def add_account(self, account: Account) -> Account:
        self.accounts[account.client_id] = account
        self.fills.setdefault(account.client_id, [])
        self._books.setdefault(account.client_id, [])
        self.limiters.setdefault(account.client_id, RateLimiter())
        return account

    def add_instrument(self, instrument: Instrument, last_price: Decimal = ZERO) -> Instrument:
        self.instruments[instrument.security] = instrument
        if last_price:
            self.prices[instrument.security] = last_price
        return instrument

    def carry(self, client_id: str, carried: Carried) -> None:
        self.accounts[client_id].carried.append(carried)

    def hold(self, client_id: str, holding: Holding) -> None:
        self.accounts[client_id].holdings.append(holding)

    def leader(self, client_id: str) -> AppTrader:
        """Somebody who trades this account by hand in the broker's app."""
        return AppTrader(self, self.accounts[client_id])

    def last_price(self, instrument: Instrument) -> Decimal:
        return self.prices.get(instrument.security, ZERO)

    def set_price(self, exchange_segment: str, security_id: str, price: Decimal) -> None:
        """The market moved: stop losses trigger, limits that it crosses fill."""
        security = (exchange_segment, security_id)
        self.prices[security] = price
        for order in [order for order in self._open.values() if order.instrument.security == security]:
            self._match(order, arriving=False)

    def set_token(self, client_id: str, token: str, source: str = "web", expires_at: datetime | None = None) -> None:
        """A new token; the one before it is dead from now on."""
        account = self.accounts[client_id]
        account.dead_tokens.append(account.access_token)
        account.access_token, account.token_source = token, source
        account.token_made_at, account.token_expires_at = self.clock(), expires_at

    def expire_token(self, client_id: str, break_streams: bool = False) -> None:
        self.accounts[client_id].token_expires_at = self.clock()
        if break_streams:
            self.streams.break_off(client_id, Break("reset"))

    def charge(self, client_id: str, requests: int) -> None:
        """Another program used so many order requests of this account."""
        self.limiters[client_id].charge(self.clock(), requests)

    # Doors

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", peer: str = ""
    ) -> Response:
        """Answer one HTTP request; `path` begins with /v2, /auth or /api-data and may bear a query."""
        self.run_due()
        return rest.answer(self, method, path, headers, body, peer)

    def login(self, message: str | bytes) -> str | None:
        """The client id that an order-update login message proves, None when it proves nothing."""
        client_id = rest.login(self, message)
        self.ledger.append(self.clock(), "login", client_id=client_id or "", answer_status=200 if client_id else 401)
        return client_id

    def subscribe(
        self,
        client_id: str,
        on_frame: Callable[[Envelope], None],
        on_raw: Callable[[str | bytes], None] | None = None,
        on_break: Callable[[Break], None] | None = None,
    ) -> Callable[[], None]:
        return self.streams.subscribe(client_id, on_frame, on_raw, on_break)

    def push_raw(self, client_id: str, message: str | bytes, mirrored: bool = False) -> None:
        """Send this very text over the account's stream; `mirrored` writes it into the book as well."""
        envelope = envelope_of(message)
        if mirrored and envelope is not None:
            mirror(self, client_id, envelope)
        self.streams.send(client_id, message)

    def load_book_from_frames(self, client_id: str, frames: Iterable[Envelope]) -> None:
        for envelope in frames:
            mirror(self, client_id, envelope)

    def script(self, fault: Fault) -> None:
        self.faults.add(fault)

    def run_due(self) -> None:
        self.agenda.run_due()

    @property
    def next_due(self) -> datetime | None:
        return self.agenda.next_due

    # Reading

    def book(self, client_id: str) -> list[BookOrder]:
        now = self.clock()
        return [order for order in self._books[client_id] if not _is_later(order.hidden_from_book_until, now)]

    def lookup(self, client_id: str, correlation_id: str) -> BookOrder | None:
        """The newest order of this name; one in transit is not found, nor is one whose index lags."""
        now = self.clock()
        for order in reversed(self._by_correlation_id.get((client_id, correlation_id), [])):
            if order.status != TRANSIT and not _is_later(order.hidden_from_lookup_until, now):
                return order
        return None

    def nets(self, client_id: str) -> portfolio.Nets:
        return portfolio.nets(self.accounts[client_id], self.fills[client_id], self.instruments)

    def utilized(self, client_id: str, without: BookOrder | None = None) -> Decimal:
        working = [order for order in self._open.values() if order.client_id == client_id and order is not without]
        return portfolio.utilized(self.nets(client_id), working)

    def may_read(self, client_id: str) -> bool:
        """Whether the account has a read left in this second, where reads are limited at all."""
        limit = self.settings.read_limit
        if limit is None:
            return True
        limiter = self._read_limiters.setdefault((client_id, limit), RateLimiter([(1, limit)]))
        return limiter.take(self.clock())

    def violate(self, client_id: str, method: str, path: str, reason: str) -> None:
        self.violations.append(Violation(self.clock(), client_id, method, path, reason))

    # The life of an order

    def submit(self, account: Account, placement: Placement, treatment: Treatment) -> BookOrder:
        """Accept a placement over the API: TRANSIT now, at the exchange a little later."""
        now, instrument = self.clock(), self.instruments[placement.security]
        order = BookOrder(
            self.next_number("322"),
            account.client_id,
            instrument,
            placement.side,
            placement.product,
            matching.protected(placement.terms, placement.side, instrument, self.last_price(instrument)),
            now,
            now,
            now,
            correlation_id=placement.correlation_id or f"{account.client_id}-{int(now.timestamp() * 1000)}",
            after_market=placement.after_market,
            off_market_flag="1" if placement.after_market else "0",
            reject_at_landing=treatment.reject_later,
        )
        if treatment.hide_lookup:
            order.hidden_from_lookup_until = now + _seconds(treatment.hide_lookup)
        if treatment.hide_book:
            order.hidden_from_book_until = now + _seconds(treatment.hide_book)
        self.enter(order)
        if treatment.reject:
            self.reject(order.order_id, treatment.reject)
        else:
            self.agenda.later(self.settings.transit_seconds, partial(self.land, order))
        return order

    def enter(self, order: BookOrder) -> None:
        """Write a new order into the book."""
        self.orders[order.order_id] = order
        self._books[order.client_id].append(order)
        self._by_correlation_id.setdefault((order.client_id, order.correlation_id), []).append(order)
        if order.is_open:
            self._open[order.order_id] = order
        self.note(order, "accepted")

    def land(self, order: BookOrder) -> None:
        """The order reaches RMS and the exchange."""
        if order.status != TRANSIT:
            return
        objection = self._objection(order)
        if objection:
            self.reject(order.order_id, objection)
            return
        now = self.clock()
        order.status, order.updated_at, order.reason = PENDING, now, "" if order.after_market else "CONFIRMED"
        if not order.after_market:
            order.exchange_order_id, order.exchange_at = self.next_exchange_number(), now
        self.note(order, "pending")
        self.tell(order, "Pending", average=self._average_at_once(order))
        self._match(order, arriving=True)
        if order.terms.validity == "IOC" and order.is_open and not order.after_market:
            self.cancel(order.order_id)

    def release_after_market(self, order_id: str) -> None:
        """The market opened: a stored AMO goes to the exchange."""
        order = self.orders[order_id]
        order.after_market, order.status = False, TRANSIT
        self.land(order)

    def submit_modification(self, order: BookOrder, terms: Terms, reject: str) -> None:
        order.modifications += 1
        order.reject_next_modification = reject
        terms = matching.protected(terms, order.side, order.instrument, self.last_price(order.instrument))
        self.agenda.later(self.settings.transit_seconds, partial(self._land_modification, order, terms))

    def modify(self, order_id: str, terms: Terms) -> None:
        """The order has new terms now."""
        order, now = self.orders[order_id], self.clock()
        order.terms, order.triggered = terms, False
        order.ordered_at = order.updated_at = now
        order.exchange_at = None if order.after_market else now
        self.note(order, "modified")
        self.tell(order, "Modified")
        self._match(order, arriving=True)

    def refuse_modification(self, order_id: str, attempted: Terms, text: str) -> None:
        """The order keeps its terms; the frame tells the attempted ones."""
        order = self.orders[order_id]
        order.ordered_at = order.updated_at = self.clock()
        self.note(order, "modify_rejected", price=attempted.price, quantity=attempted.quantity, text=text)
        self.tell(order, "Mod-Rejected", reason=_by_rms(order, text), attempted=attempted)

    def submit_cancel(self, order: BookOrder) -> None:
        self.agenda.later(self.settings.transit_seconds, partial(self._land_cancel, order))

    def cancel(self, order_id: str) -> None:
        self._die(self.orders[order_id], CANCELLED, "Cancelled", "cancelled")

    def expire(self, order_id: str) -> None:
        self._die(self.orders[order_id], EXPIRED, "Expired", "expired")

    def reject(self, order_id: str, text: str) -> None:
        order = self._opened(order_id)
        order.reason, order.updated_at = _by_rms(order, text), self.clock()
        self._end(order, REJECTED)
        self.note(order, "rejected", text=order.reason)
        self.tell(order, "Rejected", reason=order.reason)

    def trigger(self, order_id: str) -> None:
        """A stop loss becomes a limit order."""
        order = self._opened(order_id)
        order.triggered, order.updated_at = True, self.clock()
        if self.settings.triggered_as_limit:
            kind = {"STOP_LOSS": "LIMIT", "STOP_LOSS_MARKET": "MARKET"}.get(order.terms.order_type, "LIMIT")
            order.terms = replace(order.terms, order_type=kind, trigger_price=ZERO)
        self.note(order, "triggered")
        self.tell(order, "Triggered", reason="STOPLOSS TRIGGER")

    def fill(self, order_id: str, quantity: int | None = None, price: Decimal | None = None) -> None:
        """So much of the order trades (all that is open), at this price (its own, or the last)."""
        order = self._opened(order_id)
        quantity = order.open_quantity if quantity is None else quantity
        if not 0 < quantity <= order.open_quantity:
            raise ValueError(f"cannot fill {quantity} of order {order_id}: {order.open_quantity} is open")
        if price is None:
            price = order.terms.price or self.last_price(order.instrument)
        if order.status == TRANSIT:
            raise ValueError(f"cannot fill order {order_id}: it is in transit")
        self.add_fill(order, quantity, price, self.clock())
        order.updated_at = order.exchange_at = self.clock()
        order.reason = "TRADE CONFIRMED"
        if order.filled == order.terms.quantity:
            self._end(order, TRADED)
        else:
            order.status = PART_TRADED
        self.tell(order, "Traded" if order.status == TRADED else "Part-Traded", reason="TRADE CONFIRMED")

    def add_fill(self, order: BookOrder, quantity: int, price: Decimal, at: datetime) -> None:
        """Write a fill into the trade book and the ledger."""
        order.filled += quantity
        order.value += price * quantity
        order.last_fill_price = price
        self._numbers += 1
        fill = Fill(
            str(200_000_000 + self._numbers),
            order.order_id,
            at,
            order.instrument.security,
            order.side,
            order.product,
            quantity,
            price,
        )
        self.fills[order.client_id].append(fill)
        self.note(order, "filled", quantity=quantity, price=price)

    def close_book_entry(self, order: BookOrder, status: str) -> None:
        """Set the final status without telling anybody: what a mirrored frame does."""
        self._end(order, status)

    def note(self, order: BookOrder, kind: str, **details: object) -> None:
        """A ledger row about an order, with its terms unless the details say otherwise."""
        terms = order.terms
        row: dict[str, object] = {
            "client_id": order.client_id,
            "order_id": order.order_id,
            "correlation_id": order.correlation_id,
            "platform": order.platform,
            "exchange_segment": order.instrument.exchange_segment,
            "security_id": order.instrument.security_id,
            "side": order.side,
            "product": order.product,
            "order_type": terms.order_type,
            "validity": terms.validity,
            "quantity": terms.quantity,
            "price": terms.price,
            "trigger_price": terms.trigger_price,
        }
        self.ledger.append(self.clock(), kind, **(row | details))

    def tell(
        self,
        order: BookOrder,
        status: str,
        *,
        reason: str = "CONFIRMED",
        attempted: Terms | None = None,
        average: Decimal | None = None,
    ) -> None:
        """Send a frame about the order as it is now."""
        last = self.last_price(order.instrument)
        message = wire.frame(order, status, last, reason=reason, attempted=attempted, average=average)
        self.streams.send(order.client_id, message)

    def next_number(self, prefix: str) -> str:
        """An order id in the broker's manner: a prefix, the date, a running number."""
        self._numbers += 1
        return f"{prefix}{self.clock():%y%m%d}{self._numbers:06d}"

    def next_exchange_number(self) -> str:
        self._numbers += 1
        return f"20000000{self._numbers:08d}"

    def _opened(self, order_id: str) -> BookOrder:
        order = self.orders[order_id]
        if not order.is_open:
            raise ValueError(f"order {order_id} is {order.status}")
        return order

    def _end(self, order: BookOrder, status: str) -> None:
        order.status = status
        self._open.pop(order.order_id, None)

    def _die(self, order: BookOrder, status: str, title: str, kind: str) -> None:
        self._opened(order.order_id)
        now = self.clock()
        order.created_at = order.ordered_at = order.updated_at = now
        order.exchange_at = None if order.after_market else now
        self._end(order, status)
        self.note(order, kind)
        self.tell(order, title)

    def _land_modification(self, order: BookOrder, terms: Terms) -> None:
        text = order.reject_next_modification or checks.objection(order.order_id, terms, order.instrument)
        order.reject_next_modification = ""
        if not order.is_open or terms.quantity <= order.filled:
            text = "EXCH:16284: The order cannot be modified"
        elif not text:
            text = self._lack_of_funds(order, terms)
        if text:
            self.refuse_modification(order.order_id, terms, text)
        else:
            self.modify(order.order_id, terms)

    def _land_cancel(self, order: BookOrder) -> None:
        if order.is_open:
            self.cancel(order.order_id)

    def _objection(self, order: BookOrder) -> str:
        if order.reject_at_landing or order.platform != "API":
            return order.reject_at_landing
        if not self.settings.market_open and not order.after_market:
            return f"RMS:{order.order_id}:Market is Closed"
        text = checks.objection(order.order_id, order.terms, order.instrument)
        return text or self._lack_of_funds(order, order.terms)

    def _lack_of_funds(self, order: BookOrder, terms: Terms) -> str:
        account = self.accounts[order.client_id]
        if not account.check_margin:
            return ""
        all_nets = self.nets(order.client_id)
        realized = sum((net.realized for net in all_nets.values()), ZERO)
        available = account.funds + realized - self.utilized(order.client_id, without=order)
        missing = portfolio.order_margin(replace(order, terms=terms), all_nets) - available
        if missing <= 0:
            return ""
        return f"RMS:{order.order_id}:You have insufficient funds. Please add Rs.{missing:.2f} to trade."

    def _average_at_once(self, order: BookOrder) -> Decimal | None:
        at_once = self._fills_at(order, arriving=True) if not order.waits_for_trigger else None
        return at_once if self.settings.average_on_pending and order.source == "P" else None

    def _match(self, order: BookOrder, *, arriving: bool) -> None:
        if not order.is_open or order.status == TRANSIT or order.after_market:
            return
        if self.accounts[order.client_id].fill_policy != "cross":
            return
        if order.waits_for_trigger and matching.is_triggered(order, self.last_price(order.instrument)):
            self.trigger(order.order_id)
            arriving = True
        price = self._fills_at(order, arriving=arriving)
        if price is not None:
            self.fill(order.order_id, None, price)

    def _fills_at(self, order: BookOrder, *, arriving: bool) -> Decimal | None:
        if self.accounts[order.client_id].fill_policy != "cross":
            return None
        return matching.fills_at(order, self.last_price(order.instrument), arriving=arriving)


def _is_later(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and moment > now


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _by_rms(order: BookOrder, text: str) -> str:
    return text if text.startswith(("RMS:", "EXCH:")) else f"RMS:{order.order_id}:{text}"

"""The scripting surface under /sim: what a test in another process does to the exchange.

Each entry maps a verb and a path to an ordinary function; its arguments are the members
of the JSON body (or of the query), checked against the function's own annotations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import cache
from types import MethodType
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError, validate_call

from copytrader.simulator import wire, world
from copytrader.simulator.faults import Fault
from copytrader.simulator.model import Account, Carried, Holding, Instrument
from copytrader.simulator.streams import Break

if TYPE_CHECKING:
    from copytrader.simulator.exchange import Exchange

_ORDER_VERBS = ("fill", "trigger", "cancel", "expire", "reject")
_LEADER_VERBS = (*_ORDER_VERBS, "place", "modify", "modify_rejected", "super_leg", "forever_child")


def control(exchange: Exchange, method: str, path: str, arguments: dict[str, Any]) -> tuple[int, Any]:
    """Carry out one scripting request: a status and what to answer as JSON."""
    exchange.run_due()
    action = _action(exchange, method, path.removeprefix("/sim"), arguments)
    if action is None:
        return 404, {"error": f"{method} {path} is not part of the simulator's control surface"}
    try:
        result = action()
    except KeyError as unknown:
        return 400, {"error": f"unknown {unknown.args[0]!r}"}
    except (ValidationError, ValueError) as error:
        return 400, {"error": str(error)}
    return 200, {"ok": True} if result is None else result


def _action(exchange: Exchange, method: str, path: str, arguments: dict[str, Any]) -> Callable[[], Any] | None:
    if method == "POST" and path.startswith(("/leader/", "/order/")):
        return _trading(exchange, path, dict(arguments))
    entry = _Desk(exchange).entries().get((method, path))
    return None if entry is None else lambda: _checked(entry, arguments)


def _trading(exchange: Exchange, path: str, arguments: dict[str, Any]) -> Callable[[], Any] | None:
    """/leader/place and so on act for `client_id`, /order/fill and so on for the order's own account."""
    kind, verb = path.strip("/").split("/", 1)
    if verb not in (_LEADER_VERBS if kind == "leader" else _ORDER_VERBS):
        return None

    def act() -> Any:
        order_id = arguments.get("order_id")
        client_id = arguments.pop("client_id", None) if kind == "leader" else None
        trader = exchange.leader(client_id or exchange.orders[str(order_id)].client_id)
        result = _checked(getattr(trader, verb), arguments)
        return {"order_id": result or order_id}

    return act


def _checked(method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a method with arguments checked against its annotations."""
    assert isinstance(method, MethodType)
    return _validated(method.__func__)(method.__self__, **arguments)


@cache
def _validated(function: Callable[..., Any]) -> Callable[..., Any]:
    return validate_call(function)


class _Desk:
    """The functions behind the fixed paths."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def entries(self) -> dict[tuple[str, str], Callable[..., Any]]:
        exchange = self._exchange
        return {
            ("POST", "/reset"): self.reset,
            ("POST", "/settings"): self.settings,
            ("POST", "/accounts"): self.add_accounts,
            ("GET", "/accounts"): self.accounts,
            ("POST", "/instruments"): self.add_instruments,
            ("GET", "/instruments"): self.instruments,
            ("POST", "/price"): exchange.set_price,
            ("POST", "/carry"): self.carry,
            ("POST", "/hold"): self.hold,
            ("POST", "/push"): self.push,
            ("POST", "/book"): self.load_book,
            ("POST", "/fault"): self.fault,
            ("DELETE", "/fault"): exchange.faults.clear,
            ("POST", "/stream"): self.stream,
            ("POST", "/handshake"): exchange.streams.refuse_handshakes,
            ("POST", "/token"): self.token,
            ("POST", "/charge"): exchange.charge,
            ("POST", "/release"): exchange.release_after_market,
            ("GET", "/ledger"): self.ledger,
            ("GET", "/orders"): self.orders,
            ("GET", "/violations"): self.violations,
            ("GET", "/limits"): self.limits,
            ("GET", "/streams"): exchange.streams.listeners,
        }

    def reset(self, scenario: str = "empty", followers: int = 2) -> None:
        world.check(scenario, followers)
        self._exchange.reset()
        world.furnish(self._exchange, scenario, followers)

    def settings(
        self,
        transit_seconds: float | None = None,
        market_open: bool | None = None,
        triggered_as_limit: bool | None = None,
        average_on_pending: bool | None = None,
        lookup_as_list: bool | None = None,
        newest_first: bool | None = None,
        cancel_status: int | None = None,
        foreign_peer_code: str | None = None,
        read_limit: int | None = None,
    ) -> None:
        given = {key: value for key, value in locals().items() if key != "self" and value is not None}
        self._exchange.settings = replace(self._exchange.settings, **given)

    def add_accounts(self, accounts: list[dict[str, Any]]) -> None:
        for account in TypeAdapter(list[Account]).validate_python(accounts):
            self._exchange.add_account(account)

    def accounts(self) -> list[dict[str, Any]]:
        return [
            {
                "client_id": account.client_id,
                "name": account.name,
                "funds": float(account.funds),
                "fill_policy": account.fill_policy,
                "check_margin": account.check_margin,
                "net": [
                    {
                        "exchange_segment": security[0],
                        "security_id": security[1],
                        "product": product,
                        "quantity": net.quantity,
                    }
                    for (security, product), net in self._exchange.nets(account.client_id).items()
                ],
            }
            for account in self._exchange.accounts.values()
        ]

    def add_instruments(self, instruments: list[dict[str, Any]]) -> None:
        for row in instruments:
            last_price = TypeAdapter(Decimal).validate_python(row.get("last_price", 0))
            fields = {key: value for key, value in row.items() if key != "last_price"}
            self._exchange.add_instrument(TypeAdapter(Instrument).validate_python(fields), last_price)

    def instruments(self) -> list[dict[str, Any]]:
        rows = TypeAdapter(list[Instrument]).dump_python(list(self._exchange.instruments.values()), mode="json")
        prices = (self._exchange.last_price(one) for one in self._exchange.instruments.values())
        return [row | {"last_price": float(price)} for row, price in zip(rows, prices, strict=True)]

    def carry(
        self,
        client_id: str,
        exchange_segment: str,
        security_id: str,
        quantity: int,
        average: Decimal,
        product: str = "MARGIN",
    ) -> None:
        carried = Carried((exchange_segment, security_id), product, quantity, average)
        if carried.security not in self._exchange.instruments:
            raise KeyError(security_id)
        self._exchange.carry(client_id, carried)

    def hold(self, client_id: str, symbol: str, security_id: str, quantity: int, average: Decimal) -> None:
        self._exchange.hold(client_id, Holding(symbol, security_id, quantity, average))

    def push(
        self, client_id: str, text: str | None = None, frame: dict[str, Any] | None = None, mirror: bool = False
    ) -> None:
        raw = wire.encode(frame).decode() if text is None else text
        self._exchange.push_raw(client_id, raw, mirror)

    def load_book(self, client_id: str, frames: list[dict[str, Any]]) -> None:
        self._exchange.load_book_from_frames(client_id, frames)

    def fault(self, faults: list[dict[str, Any]]) -> None:
        for fault in TypeAdapter(list[Fault]).validate_python(faults):
            self._exchange.script(fault)

    def stream(
        self,
        client_id: str,
        drop: int | None = None,
        duplicate: int | None = None,
        reorder: int | None = None,
        delay: float | None = None,
        withhold: bool | None = None,
        release: bool = False,
        close: int | None = None,
        reset: bool = False,
        half_open: bool = False,
    ) -> None:
        faults = self._exchange.streams.faults(client_id)
        given = {"drop": drop, "duplicate": duplicate, "reorder": reorder, "delay": delay, "withhold": withhold}
        for name, value in given.items():
            if value is not None:
                setattr(faults, name, value)
        if release:
            self._exchange.streams.release(client_id)
        for kind, wanted in (("close", close is not None), ("reset", reset), ("half_open", half_open)):
            if wanted:
                self._exchange.streams.break_off(client_id, Break(kind, close or 1000))

    def token(
        self, client_id: str, replace_by: str = "", expires_at: datetime | None = None, break_streams: bool = False
    ) -> None:
        """A new token kills the old; without one, the token expires now (or then)."""
        if replace_by:
            self._exchange.set_token(client_id, replace_by, expires_at=expires_at)
        elif expires_at is not None:
            self._exchange.accounts[client_id].token_expires_at = expires_at
        else:
            self._exchange.expire_token(client_id, break_streams)

    def ledger(self, client_id: str = "", kind: str = "", after: int = 0) -> list[dict[str, Any]]:
        return [
            row.as_json()
            for row in self._exchange.ledger
            if row.seq > after and client_id in ("", row.client_id) and kind in ("", row.kind)
        ]

    def orders(self, client_id: str) -> list[dict[str, Any]]:
        if client_id not in self._exchange.accounts:
            raise KeyError(client_id)
        mine = (order for order in self._exchange.orders.values() if order.client_id == client_id)
        return [wire.order_row(order) | {"orderPlatform": order.platform} for order in mine]

    def violations(self) -> list[dict[str, Any]]:
        return [violation.as_json() for violation in self._exchange.violations]

    def limits(self) -> dict[str, Any]:
        now = self._exchange.clock()
        return {
            client_id: {"worst": limiter.worst, "used": limiter.used(now), "overruns": limiter.overruns}
            for client_id, limiter in self._exchange.limiters.items()
        }

"""Somebody trading by hand in the broker's app: orders that no REST request made.

App orders are not converted, carry correlationId "NA" and orderPlatform FAST, and reach
the exchange at once.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from copytrader.simulator import wire
from copytrader.simulator.model import TRANSIT, ZERO, Account, BookOrder, Terms

if TYPE_CHECKING:
    from copytrader.simulator.exchange import Exchange

_BEYOND = {"BUY": Decimal("1.01"), "SELL": Decimal("0.99")}


class AppTrader:
    def __init__(self, exchange: Exchange, account: Account) -> None:
        self._exchange = exchange
        self._account = account

    def place(
        self,
        exchange_segment: str,
        security_id: str,
        side: str,
        quantity: int,
        order_type: str = "MARKET",
        price: Decimal = ZERO,
        trigger_price: Decimal = ZERO,
        product: str = "MARGIN",
        validity: str = "DAY",
        disclosed_quantity: int = 0,
        after_market: bool = False,
        super_order: bool = False,
        order_id: str = "",
        reject: str = "",
    ) -> str:
        """Place an order and return its id; `reject` are the words with which RMS refuses it."""
        terms = Terms(order_type, validity, quantity, price, trigger_price, disclosed_quantity)
        order = self._order(exchange_segment, security_id, side, product, terms, order_id)
        order.after_market, order.off_market_flag = after_market, "1" if after_market else "0"
        order.remarks = "Super Order" if super_order else " "
        order.reject_at_landing = reject
        self._exchange.enter(order)
        self._exchange.land(order)
        return order.order_id

    def modify(
        self,
        order_id: str,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        order_type: str | None = None,
        validity: str | None = None,
        disclosed_quantity: int | None = None,
    ) -> None:
        terms = self._changed(order_id, quantity, price, trigger_price, order_type, validity, disclosed_quantity)
        self._exchange.modify(order_id, terms)

    def modify_rejected(
        self,
        order_id: str,
        price: Decimal | None = None,
        quantity: int | None = None,
        trigger_price: Decimal | None = None,
        text: str = "Insufficient Funds, required margin is 2745.00 and available margin 602. Add Funds to Trade",
    ) -> None:
        """Try a change that RMS refuses."""
        attempted = self._changed(order_id, quantity, price, trigger_price, None, None, None)
        self._exchange.refuse_modification(order_id, attempted, text)

    def cancel(self, order_id: str) -> None:
        self._exchange.cancel(order_id)

    def fill(self, order_id: str, quantity: int | None = None, price: Decimal | None = None) -> None:
        self._exchange.fill(order_id, quantity, price)

    def trigger(self, order_id: str) -> None:
        self._exchange.trigger(order_id)

    def expire(self, order_id: str) -> None:
        self._exchange.expire(order_id)

    def reject(self, order_id: str, text: str = "Rejected by the exchange") -> None:
        self._exchange.reject(order_id, text)

    def super_leg(
        self, order_id: str, leg_no: int, price: Decimal, trigger_price: Decimal = ZERO, status: str = "Pending"
    ) -> None:
        """Send a frame of a super order's stop-loss leg (2) or target leg (3); legs are not in the book."""
        entry = self._exchange.orders[order_id]
        leg = replace(
            entry,
            leg_no=leg_no,
            remarks="Super Order",
            side="SELL" if entry.side == "BUY" else "BUY",
            terms=Terms("STOP_LOSS" if leg_no == 2 else "LIMIT", "DAY", entry.terms.quantity, price, trigger_price),
            filled=0,
            value=ZERO,
            updated_at=self._exchange.clock(),
        )
        message = wire.frame(leg, status, self._exchange.last_price(leg.instrument))
        self._exchange.streams.send(entry.client_id, message)

    def forever_child(
        self,
        exchange_segment: str,
        security_id: str,
        side: str,
        quantity: int,
        product: str = "MARGIN",
        forever_order_id: int = 32132609031621,
        order_id: str = "",
    ) -> str:
        """A forever order fires: a limit 1 % beyond the last price, marked off-market though it is not."""
        instrument = self._exchange.instruments[(exchange_segment, security_id)]
        price = instrument.cut_to_tick(self._exchange.last_price(instrument) * _BEYOND[side])
        order = self._order(
            exchange_segment, security_id, side, product, Terms("LIMIT", "DAY", quantity, price), order_id
        )
        order.source, order.platform, order.correlation_id = "P", "FOVR", "NR"
        order.algo_order_no, order.off_market_flag = forever_order_id, "1"
        self._exchange.enter(order)
        self._exchange.land(order)
        return order.order_id

    def _order(
        self, exchange_segment: str, security_id: str, side: str, product: str, terms: Terms, order_id: str
    ) -> BookOrder:
        now = self._exchange.clock()
        instrument = self._exchange.instruments[(exchange_segment, security_id)]
        number = order_id or self._exchange.next_number("362")
        order = BookOrder(number, self._account.client_id, instrument, side, product, terms, now, now, now)
        order.status, order.source, order.platform, order.algo_id = TRANSIT, "N", "FAST", "0"
        return order

    def _changed(
        self,
        order_id: str,
        quantity: int | None,
        price: Decimal | None,
        trigger_price: Decimal | None,
        order_type: str | None,
        validity: str | None,
        disclosed_quantity: int | None,
    ) -> Terms:
        old = self._exchange.orders[order_id].terms
        if order_type == "MARKET" and price is None:
            price = ZERO
        return Terms(
            old.order_type if order_type is None else order_type,
            old.validity if validity is None else validity,
            old.quantity if quantity is None else quantity,
            old.price if price is None else price,
            old.trigger_price if trigger_price is None else trigger_price,
            old.disclosed_quantity if disclosed_quantity is None else disclosed_quantity,
        )

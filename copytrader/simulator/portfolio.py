"""Positions, holdings and funds, computed from what was carried over and what filled today."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from copytrader.simulator import wire
from copytrader.simulator.model import ZERO, Account, BookOrder, Fill, Instrument, Security

_FUTURE_RATE = Decimal("0.15")
_INTRADAY_RATE = Decimal("0.20")


@dataclass(slots=True)
class Net:
    """Everything bought and sold of one security in one product; carried quantities apart from the day's."""

    instrument: Instrument
    product: str
    carried_buy: int = 0
    carried_sell: int = 0
    carried_buy_value: Decimal = ZERO
    carried_sell_value: Decimal = ZERO
    day_buy: int = 0
    day_sell: int = 0
    day_buy_value: Decimal = ZERO
    day_sell_value: Decimal = ZERO

    @property
    def bought(self) -> int:
        return self.carried_buy + self.day_buy

    @property
    def sold(self) -> int:
        return self.carried_sell + self.day_sell

    @property
    def quantity(self) -> int:
        return self.bought - self.sold

    @property
    def buy_average(self) -> Decimal:
        return (self.carried_buy_value + self.day_buy_value) / self.bought if self.bought else ZERO

    @property
    def sell_average(self) -> Decimal:
        return (self.carried_sell_value + self.day_sell_value) / self.sold if self.sold else ZERO

    @property
    def cost(self) -> Decimal:
        return self.buy_average if self.quantity >= 0 else self.sell_average

    @property
    def realized(self) -> Decimal:
        closed = min(self.bought, self.sold)
        return (self.sell_average - self.buy_average) * closed * self.instrument.multiplier

    def unrealized(self, last_price: Decimal) -> Decimal:
        return (last_price - self.cost) * self.quantity * self.instrument.multiplier if last_price else ZERO


Nets = dict[tuple[Security, str], Net]


def nets(account: Account, fills: Iterable[Fill], instruments: Mapping[Security, Instrument]) -> Nets:
    result: Nets = {}

    def net(security: Security, product: str) -> Net:
        return result.setdefault((security, product), Net(instruments[security], product))

    for carried in account.carried:
        entry, value = net(carried.security, carried.product), carried.average * abs(carried.quantity)
        if carried.quantity > 0:
            entry.carried_buy += carried.quantity
            entry.carried_buy_value += value
        else:
            entry.carried_sell -= carried.quantity
            entry.carried_sell_value += value
    for fill in fills:
        entry = net(fill.security, fill.product)
        if fill.side == "BUY":
            entry.day_buy += fill.quantity
            entry.day_buy_value += fill.price * fill.quantity
        else:
            entry.day_sell += fill.quantity
            entry.day_sell_value += fill.price * fill.quantity
    return result


def position_row(client_id: str, net: Net, last_price: Decimal) -> dict[str, Any]:
    instrument = net.instrument
    return {
        "dhanClientId": client_id,
        "tradingSymbol": instrument.symbol,
        "securityId": instrument.security_id,
        "positionType": "LONG" if net.quantity > 0 else "SHORT" if net.quantity < 0 else "CLOSED",
        "exchangeSegment": instrument.exchange_segment,
        "productType": net.product,
        "buyAvg": float(net.buy_average),
        "costPrice": float(net.cost),
        "buyQty": net.bought,
        "sellAvg": float(net.sell_average),
        "sellQty": net.sold,
        "netQty": net.quantity,
        "realizedProfit": float(net.realized),
        "unrealizedProfit": float(net.unrealized(last_price)),
        "rbiReferenceRate": 1.0,
        "multiplier": instrument.multiplier,
        "carryForwardBuyQty": net.carried_buy,
        "carryForwardSellQty": net.carried_sell,
        "carryForwardBuyValue": float(net.carried_buy_value),
        "carryForwardSellValue": float(net.carried_sell_value),
        "dayBuyQty": net.day_buy,
        "daySellQty": net.day_sell,
        "dayBuyValue": float(net.day_buy_value),
        "daySellValue": float(net.day_sell_value),
        "drvExpiryDate": wire.row_expiry(instrument),
        "drvOptionType": {"CE": "CALL", "PE": "PUT"}.get(instrument.option_type, "NA"),
        "drvStrikePrice": wire.row_strike(instrument),
        "crossCurrency": False,
    }


def holding_rows(account: Account, prices: Mapping[Security, Decimal]) -> list[dict[str, Any]]:
    return [
        {
            "exchange": "ALL",
            "tradingSymbol": holding.symbol,
            "securityId": holding.security_id,
            "isin": holding.isin,
            "totalQty": holding.quantity,
            "dpQty": holding.quantity,
            "t1Qty": 0,
            "availableQty": holding.quantity,
            "collateralQty": 0,
            "avgCostPrice": float(holding.average),
            "lastTradedPrice": float(prices.get(("NSE_EQ", holding.security_id), holding.average)),
        }
        for holding in account.holdings
    ]


def margin(instrument: Instrument, side: str, product: str, quantity: int, price: Decimal) -> Decimal:
    """A plain margin: premium for bought options, 15 % of the contract for futures and sold options."""
    units = quantity * instrument.multiplier
    if instrument.is_option:
        return price * units if side == "BUY" else (instrument.strike or price) * units * _FUTURE_RATE
    if instrument.is_derivative:
        return price * units * _FUTURE_RATE
    return price * units * (_INTRADAY_RATE if product == "INTRADAY" else 1)


def utilized(all_nets: Nets, open_orders: Iterable[BookOrder]) -> Decimal:
    """What open positions and working orders tie up; an order that closes a position needs nothing."""
    total = ZERO
    for net in all_nets.values():
        if net.quantity:
            side = "BUY" if net.quantity > 0 else "SELL"
            total += margin(net.instrument, side, net.product, abs(net.quantity), net.cost)
    for order in open_orders:
        total += order_margin(order, all_nets)
    return total


def order_margin(order: BookOrder, all_nets: Nets) -> Decimal:
    net = all_nets.get((order.instrument.security, order.product))
    held = net.quantity if net else 0
    closable = max(0, -held if order.side == "BUY" else held)
    opening = max(0, order.open_quantity - closable)
    return margin(order.instrument, order.side, order.product, opening, order.terms.price)


def fund_row(account: Account, used: Decimal, realized: Decimal) -> dict[str, Any]:
    available = account.funds + realized - used
    return {
        "dhanClientId": account.client_id,
        "availabelBalance": float(available),
        "sodLimit": float(account.funds),
        "collateralAmount": 0.0,
        "receiveableAmount": 0.0,
        "utilizedAmount": float(used),
        "blockedPayoutAmount": 0.0,
        "withdrawableBalance": float(max(ZERO, available)),
    }

"""Everybody but the product: the leader, the market, the followers' own hands, the operator, and whoever mends things."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from copytrader.core.facts import Halted, Resumed
from copytrader.core.model import LEADER
from copytrader.dhan.broker import BrokerError
from copytrader.simulator import BookOrder, Carried, Instrument
from copytrader.simulator.model import TRANSIT

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

_TICK = Decimal("0.05")
_PRODUCTS = ("MARGIN", "MARGIN", "MARGIN", "INTRADAY")


class People:
    """Acts at moments drawn beforehand; what is done then depends on what there is to do it to."""

    def __init__(self, world: World) -> None:
        self.touched: set[str] = set()
        self.hand_traded: set[str] = set()
        self.carried: dict[tuple[str, str, str], int] = {}
        self.until = 0.0
        self._world = world
        self._rng = world.chance["people"]
        self._exchange = world.exchange
        self._leader_id = world.client_ids[LEADER]
        self._followers = [client_id for name, client_id in world.client_ids.items() if name != LEADER]
        self._dead_tokens: set[str] = set()
        self._renewals = 0
        self._halted = False

    @property
    def _securities(self) -> list[Instrument]:
        return list(self._exchange.instruments.values())

    def begin(self) -> None:
        rng, swarm = self._rng, self._world.swarm
        if "carried" in swarm.extras:
            for listed in self._securities:
                quantity = rng.choice((-4, 3, 10)) * listed.lot_size
                self.carried[listed.exchange_segment, listed.security_id, "MARGIN"] = quantity
                self._exchange.carry(self._leader_id, Carried(listed.security, "MARGIN", quantity, Decimal(90)))
        at = rng.choice((0.0, 0.2, 1.0, 3.0))
        for _ in range(swarm.actions):
            self._world.loop.call_at(at, self._act)
            at += rng.expovariate(1 / swarm.pace)
        for kind in sorted(swarm.extras & set(_INTERRUPTIONS)):
            self._world.loop.call_at(rng.uniform(0.5, at + 3), self._interrupt, kind)
        self.until = at + rng.choice((0.5, 3.0, 15.0))

    # The leader

    def _act(self) -> None:
        rng, orders = self._rng, self._open_of(self._leader_id)
        held = [(key, net) for key, net in self.nets(self._leader_id).items() if net]
        choice = rng.random()
        if held and choice < 0.3:
            self._get_out_of(*rng.choice(held))
        elif orders and choice < 0.5:
            self._change(rng.choice(orders))
        elif orders and choice < 0.62:
            self._exchange.cancel(rng.choice(orders).order_id)
        elif orders and choice < 0.75:
            self._fill(rng.choice(orders))
        elif choice < 0.8:
            self._odd_order()
        else:
            self._enter()
        self._move_price()
        for client_id in self._followers:
            self._market(client_id)

    def _enter(self) -> None:
        rng, listed = self._rng, self._rng.choice(self._securities)
        side = rng.choice(("BUY", "BUY", "SELL"))
        quantity = rng.choice((1, 1, 2, 2, 3, 4, 5, 12)) * listed.lot_size
        kind = rng.random()
        if kind < 0.25:
            self._place(listed, side, quantity, "MARKET")
        elif kind < 0.33:
            self._place(listed, side, quantity, "LIMIT", self._price(side, listed, 2), validity="IOC")
        elif kind < 0.45:
            trigger = self._price(side, listed, 2)
            price = trigger + (1 if side == "BUY" else -1) * 10 * _TICK
            order_type = rng.choice(("STOP_LOSS", "STOP_LOSS_MARKET"))
            self._place(listed, side, quantity, order_type, price if order_type == "STOP_LOSS" else Decimal(0), trigger)
        else:
            self._place(listed, side, quantity, "LIMIT", self._price(side, listed, rng.choice((-3, -1, 0, 1))))

    def _get_out_of(self, key: tuple[str, str, str], net: int) -> None:
        rng = self._rng
        listed = self._exchange.instruments[key[0], key[1]]
        side = "SELL" if net > 0 else "BUY"
        lots = abs(net) // listed.lot_size
        quantity = rng.choice((lots, lots, max(lots // 2, 1), 1, lots + 2)) * listed.lot_size
        kind = rng.random()
        if kind < 0.4:
            self._place(listed, side, quantity, "MARKET", product=key[2])
        elif kind < 0.7:
            self._place(listed, side, quantity, "LIMIT", self._price(side, listed, -2), product=key[2])
        else:
            trigger = self._price(side, listed, 2)
            price = trigger + (1 if side == "BUY" else -1) * 10 * _TICK
            order_type = rng.choice(("STOP_LOSS", "STOP_LOSS_MARKET"))
            limit = price if order_type == "STOP_LOSS" else Decimal(0)
            self._place(listed, side, quantity, order_type, limit, trigger, product=key[2])
            if rng.random() < 0.6:
                self._place(listed, side, quantity, "LIMIT", self._price(side, listed, -2), product=key[2])

    def _place(
        self,
        listed: Instrument,
        side: str,
        quantity: int,
        order_type: str,
        price: Decimal = Decimal(0),
        trigger: Decimal = Decimal(0),
        product: str = "",
        validity: str = "DAY",
    ) -> None:
        reject = "You have insufficient funds. Please add Rs.9 to trade." if self._rng.random() < 0.04 else ""
        product = product or self._rng.choice(_PRODUCTS)
        order_id = self._exchange.leader(self._leader_id).place(
            *listed.security, side, quantity, order_type, price, trigger, product, validity, reject=reject
        )
        order = self._exchange.orders[order_id]
        if order_type == "MARKET" and order.is_open and self._rng.random() < 0.8:
            self._exchange.fill(order_id)

    def _odd_order(self) -> None:
        """An order that is not to be copied, or looks odd: a super order, a forever child, a copy of another copier's."""
        rng, listed = self._rng, self._rng.choice(self._securities)
        kind = rng.choice(("super", "forever", "copy"))
        leader = self._exchange.leader(self._leader_id)
        if kind == "super":
            leader.place(*listed.security, "BUY", listed.lot_size, "LIMIT", Decimal(95), super_order=True)
        elif kind == "forever":
            leader.forever_child(*listed.security, "BUY", 2 * listed.lot_size)
        else:
            fields = {
                "dhanClientId": self._leader_id,
                "correlationId": f"ct1-{rng.randrange(10**20):021d}"[:25],
                "transactionType": "BUY",
                "exchangeSegment": listed.exchange_segment,
                "productType": "MARGIN",
                "orderType": "LIMIT",
                "validity": "DAY",
                "securityId": listed.security_id,
                "quantity": listed.lot_size,
                "price": 95.0,
            }
            token = self._exchange.accounts[self._leader_id].access_token
            self._exchange.request("POST", "/v2/orders", {"access-token": token}, json.dumps(fields).encode())

    def _change(self, order: BookOrder) -> None:
        rng, terms = self._rng, order.terms
        lot = order.instrument.lot_size
        if rng.random() < 0.15:
            attempted = replace(terms, price=terms.price + 20 * _TICK)
            self._exchange.refuse_modification(order.order_id, attempted, "Insufficient Funds. Add Funds to Trade")
            return
        for _ in range(rng.choice((1, 1, 1, 3))):
            if not order.is_open:
                return
            terms = order.terms
            if rng.random() < 0.3:
                filled_lots = -(-order.filled // lot)
                terms = replace(terms, quantity=(filled_lots + rng.randint(1, 5)) * lot)
            elif terms.order_type in ("LIMIT", "STOP_LOSS") and rng.random() < 0.9:
                price = terms.price + rng.choice((-6, -2, 1, 4)) * _TICK
                if terms.order_type == "STOP_LOSS":
                    beyond = price <= terms.trigger_price if order.side == "BUY" else price >= terms.trigger_price
                    price = terms.price if beyond else price
                terms = replace(terms, price=price)
            elif terms.order_type == "LIMIT":
                terms = replace(terms, order_type="MARKET", price=Decimal(0))
            self._exchange.modify(order.order_id, terms)

    def _fill(self, order: BookOrder) -> None:
        if order.waits_for_trigger:
            self._exchange.trigger(order.order_id)
            return
        lots = order.open_quantity // order.instrument.lot_size
        part = lots > 1 and "partial_fill" in self._world.swarm.extras
        quantity = self._rng.randint(1, lots) * order.instrument.lot_size if part else None
        self._exchange.fill(order.order_id, quantity)

    # The market and the followers

    def _move_price(self) -> None:
        rng = self._rng
        for listed in self._securities:
            if rng.random() < 0.5:
                price = self._exchange.last_price(listed) + rng.choice((-40, -10, -2, 2, 10, 40)) * _TICK
                self._exchange.set_price(*listed.security, max(price, Decimal(20)))

    def _market(self, client_id: str) -> None:
        orders, rng, extras = self._open_of(client_id), self._rng, self._world.swarm.extras
        chance = 0.5 if "resting_market" in extras else 0.3 if "partial_fill" in extras else 0.1
        if orders and rng.random() < chance:
            self._fill(rng.choice(orders))

    def _interrupt(self, kind: str) -> None:
        done = _INTERRUPTIONS[kind](self, self._rng.choice(self._followers))
        if done:
            self._world.counts[kind] += 1

    def _ours(self, client_id: str) -> list[BookOrder]:
        return [order for order in self._open_of(client_id) if order.correlation_id.startswith("ct1-")]

    def _hand_trade(self, client_id: str) -> bool:
        listed = self._rng.choice(self._securities)
        side, lots = self._rng.choice(("BUY", "SELL", "SELL")), self._rng.randint(1, 3)
        trader = self._exchange.leader(client_id)
        order_id = trader.place(*listed.security, side, lots * listed.lot_size, product="MARGIN")
        if self._exchange.orders[order_id].is_open:
            self._exchange.fill(order_id)
        self.hand_traded.add(client_id)
        return True

    def _hand_cancel(self, client_id: str) -> bool:
        orders = self._ours(client_id)
        if orders:
            order = self._rng.choice(orders)
            self.touched.add(order.order_id)
            self._exchange.cancel(order.order_id)
        return bool(orders)

    def _hand_modify(self, client_id: str) -> bool:
        orders = [order for order in self._ours(client_id) if order.terms.order_type == "LIMIT"]
        if orders:
            order = self._rng.choice(orders)
            self.touched.add(order.order_id)
            self._exchange.modify(order.order_id, replace(order.terms, price=order.terms.price + 7 * _TICK))
        return bool(orders)

    def _exchange_reject(self, client_id: str) -> bool:
        orders = self._open_of(client_id)
        if orders:
            self._exchange.reject(self._rng.choice(orders).order_id, "Rejected by the exchange")
        return bool(orders)

    def _foreign_calls(self, client_id: str) -> bool:
        self._world.charged = True
        self._exchange.charge(client_id, self._rng.randint(5, 12))
        return True

    # The operator

    def _halt(self, client_id: str) -> bool:
        name = self._rng.choice((None, self._name(client_id)))
        self._halted = True
        self._world.leave_word(Halted(self._world.now(), name, flatten=self._rng.random() < 0.3))
        self._world.loop.call_later(self._rng.uniform(0.5, 6), self._resume)
        return True

    def _resume(self) -> None:
        if self._halted:
            self._halted = False
            self._world.leave_word(Resumed(self._world.now()))

    def _name(self, client_id: str) -> str:
        return next(name for name, known in self._world.client_ids.items() if known == client_id)

    def _follower_token(self, client_id: str) -> bool:
        self._expire(client_id)
        return True

    def _leader_token(self, _client_id: str) -> bool:
        self._expire(self._leader_id)
        return True

    def _expire(self, client_id: str) -> None:
        self._dead_tokens.add(client_id)
        self._exchange.expire_token(client_id, break_streams=self._rng.random() < 0.5)
        self._world.loop.call_later(self._rng.uniform(1, 10), self._renew, client_id)

    def _renew(self, client_id: str) -> None:
        """The user logs in anew; the running process takes the new token up, a later one starts with it."""
        if client_id not in self._dead_tokens:
            return
        self._dead_tokens.discard(client_id)
        self._renewals += 1
        token = f"canary-token-{client_id}-{self._renewals}"
        self._world.tokens[client_id] = token
        self._exchange.set_token(client_id, token)
        self.look_after_tokens()

    def look_after_tokens(self) -> None:
        """Give the running process the tokens of now, as the session's renewal does."""
        process = self._world.process
        if process is None:
            return
        changed = [name for name, known in self._world.client_ids.items() if self._is_new(process, known)]
        process.tokens.update(self._world.tokens)
        for name in self._world.client_ids:
            if name in changed or (process.copier.identity.is_refused(name) and not self._dead_tokens):
                self._world.loop.call_soon(process.copier.start, _renew(process, name))

    def _is_new(self, process: Process, client_id: str) -> bool:
        return process.tokens[client_id] != self._world.tokens[client_id]

    # Whoever mends things

    def mend(self) -> None:
        """No more trouble: tokens are good, nothing is held back, the market takes what crosses."""
        for client_id in sorted(self._dead_tokens):
            self._renew(client_id)
        self._resume()
        self._exchange.faults.clear()
        for account in self._exchange.accounts.values():
            account.fill_policy = "cross"
        self._cross()
        self.look_after_tokens()

    def _cross(self) -> None:
        for listed in self._securities:
            self._exchange.set_price(*listed.security, self._exchange.last_price(listed))

    def get_out(self) -> None:
        """The leader cancels and closes everything; what the followers' exits still wait for comes about."""
        for order in self._open_of(self._leader_id, transit=True):
            self._exchange.cancel(order.order_id)
        for key, net in self.nets(self._leader_id).items():
            if net:
                side = "SELL" if net > 0 else "BUY"
                self._exchange.leader(self._leader_id).place(key[0], key[1], side, abs(net), product=key[2])
                self._world.counts["got_out"] += 1
        for client_id in self._followers:
            for order in self._ours(client_id):
                if self._world.judge.leader_filled(order.correlation_id):
                    if order.waits_for_trigger:
                        self._exchange.trigger(order.order_id)
                    if order.is_open:
                        self._exchange.fill(order.order_id)

    # Seeing

    def nets(self, client_id: str) -> dict[tuple[str, str, str], int]:
        return {
            (*security, product): net.quantity for (security, product), net in self._exchange.nets(client_id).items()
        }

    def _open_of(self, client_id: str, *, transit: bool = False) -> list[BookOrder]:
        return [
            order
            for order in self._exchange._books[client_id]
            if order.is_open and (transit or order.status != TRANSIT)
        ]

    def _price(self, side: str, listed: Instrument, beyond: int) -> Decimal:
        """A price so many steps beyond the last one, in the direction in which an order of this side is taken."""
        step = 20 * _TICK * beyond * (1 if side == "BUY" else -1)
        return max(self._exchange.last_price(listed) + step + self._rng.randrange(4) * _TICK, Decimal(10))


async def _renew(process: Process, name: str) -> None:
    """Hold a new token against the broker's profile until that answers, then go on with it."""
    for _ in range(5):
        try:
            profile = await process.copier.accounts[name].broker.profile()
        except BrokerError:
            await asyncio.sleep(2)
            continue
        if process.copier.ready.is_set() and process.alive:
            process.copier.identity.renewed(name, profile)
        return


_INTERRUPTIONS: dict[str, Callable[[People, str], bool]] = {
    "hand_trade": People._hand_trade,
    "hand_cancel": People._hand_cancel,
    "hand_modify": People._hand_modify,
    "foreign_calls": People._foreign_calls,
    "exchange_reject": People._exchange_reject,
    "halt": People._halt,
    "follower_token": People._follower_token,
    "leader_token": People._leader_token,
}

"""One follower's part in one holding, while it is planned, and what every part of planning uses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from copytrader.core import exposure, hours, room
from copytrader.core.budget import Rank
from copytrader.core.copied_position import due_in
from copytrader.core.copies import Copy, LeaderOrder, Slice
from copytrader.core.facts import Alert, Cancel, Command, Decision, Level, Role, Skip, Verb
from copytrader.core.fold import SAID, evolve
from copytrader.core.model import CopyRules, Side, SkipReason, Ticket
from copytrader.core.state import Account, Holding, Share, State

RETRY_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


@dataclass(slots=True)
class Want:
    """A command that would close a gap, if the budget allows it."""

    rank: Rank
    command: Command
    order: LeaderOrder | None = None


class Step:
    """The decisions of one step: each changes the state at once, by the same door as a recorded one."""

    __slots__ = ("at", "decisions", "parts", "state", "tickets")

    def __init__(self, state: State, at: datetime) -> None:
        self.state = state
        self.at = at
        self.decisions: list[Decision] = []
        self.parts: dict[int, exposure.Parts] = {}
        self.tickets: dict[tuple[int, int, bool], Ticket] = {}

    def decide(self, decision: Decision) -> None:
        if type(decision) not in SAID:
            evolve(self.state, decision, self.at)
        self.decisions.append(decision)

    def alert(self, level: Level, text: str, account: str, key: str) -> None:
        self.decide(Alert(level, text, account, key))

    def skip(self, copy: Copy, reason: SkipReason, detail: str) -> None:
        """Record a reason, once for the same reason."""
        if copy.skip is not None and copy.skip.reason is reason:
            return
        self.decide(Skip(copy.follower, copy.leader.known.order_id, reason, detail))
        if reason is SkipReason.LIMIT_ORDERS_PER_MINUTE:
            text = f"{copy.follower}: entries stop for a while: {detail}"
            self.alert(Level.CRITICAL, text, copy.follower, f"pace-{copy.follower}")


class Scene:
    """One follower's part in one holding, while it is planned."""

    __slots__ = (
        "_leaving",
        "account",
        "at",
        "desk",
        "exits",
        "holding",
        "instrument",
        "lot",
        "name",
        "room",
        "share",
        "state",
        "surplus",
    )

    def __init__(self, desk: Step, holding: Holding, account: Account, share: Share) -> None:
        self.desk = desk
        self.state = desk.state
        self.at = desk.at
        self.holding = holding
        self.account = account
        self.name = share.follower
        self.share = share
        self.instrument = desk.state.instruments.get(holding.key.security)
        self.lot = self.instrument.lot_size if self.instrument is not None else 1
        self.surplus = 0
        self.exits: list[tuple[LeaderOrder, int]] = []
        self.room: dict[int, room.Room] = {}
        self._leaving: dict[int, bool] = {}

    def parts(self, order: LeaderOrder) -> exposure.Parts:
        """How an order of the leader divides; nothing that is decided changes that."""
        found = self.desk.parts.get(order.number)
        if found is None:
            found = self.desk.parts[order.number] = exposure.parts(self.holding, order)
        return found

    def is_leaving(self, sign: int) -> bool:
        found = self._leaving.get(sign)
        if found is None:
            found = self._leaving[sign] = room.is_leaving(self.holding, sign)
        return found

    def leaving(self, side: Side, before: LeaderOrder | None = None) -> int:
        """What exits decided in this step will close: those that the leader has filled, or that came `before`."""
        return sum(
            quantity
            for order, quantity in self.exits
            if order.known.ticket.side is side
            and (order.known.is_filled or (before is not None and order.number < before.number))
        )

    def wake(self, at: datetime) -> None:
        """Ask to be planned again later; a moment that has passed would only be planned as it is now."""
        if at > self.at:
            self.state.wake(at, self.holding.key, self.name)


def rules_of(state: State) -> CopyRules:
    assert state.desk is not None
    return state.desk.rules


def age_of(scene: Scene, order: LeaderOrder) -> float:
    return (scene.at - (order.known.placed_at or order.first_seen)).total_seconds()


def age_of_opening(scene: Scene, order: LeaderOrder) -> float:
    """Return the age in seconds of what an order opens: that of the fill by which it does, where an exit has grown."""
    if order.has_grown and order.traded_at is not None:
        return (scene.at - order.traded_at).total_seconds()
    return age_of(scene, order)


def is_late(scene: Scene, order: LeaderOrder) -> bool:
    return order.known.is_done and age_of(scene, order) > rules_of(scene.state).max_age_seconds


def say_once(scene: Scene, level: Level, text: str, key: str) -> None:
    """Alert about a matter of the instrument (`key`), and not again until there is something else to say of it."""
    text = f"{scene.name}: {scene.state.named(scene.holding.key.security)}: {text}"
    if scene.share.alerted.get(key) != text:
        scene.share.alerted[key] = text
        scene.desk.alert(level, text, scene.name, key)


def say_taken(scene: Scene, piece: Slice) -> None:
    """Say that an entry has closed what an exit, waiting for its price, was to close: less is held than is due."""
    if piece.role is not Role.EXIT or piece.cancelling:
        return
    share, sign = scene.share, piece.asked.side.sign
    coming = sum(each.may_open for each in share.open.values() if each.asked.side.sign == sign)
    lacking = int(due_in(share, sign)) - max(share.copied * sign, 0) - coming
    if lacking >= scene.lot:
        symbol = scene.state.named(scene.holding.key.security)
        text = (
            f"{scene.name}: {symbol}: an entry has closed what the exit {piece.order_id} was to close: {lacking} fewer "
            "are held than are due; `copytrader reconcile --fix` makes it good"
        )
        scene.desk.alert(Level.WARNING, text, scene.name, f"taken-{piece.correlation_id}")


def is_open_now(scene: Scene) -> bool:
    if not rules_of(scene.state).enforce_hours:
        return True
    assert scene.state.desk is not None
    segment = scene.holding.key.security.exchange_segment
    return hours.is_open(scene.state.desk.calendar, segment, scene.at).is_open


def is_due(scene: Scene, piece: Slice) -> bool:
    """Hold back a repeated attempt for a growing while."""
    if piece.retry_at is not None and scene.at < piece.retry_at:
        scene.wake(piece.retry_at)
        return False
    return True


def want_cancel(scene: Scene, piece: Slice, why: str, *, renew: bool = False, rank: Rank = Rank.CANCEL) -> Want | None:
    if not piece.is_open or not piece.order_id or piece.in_flight is not None or scene.account.blocked is not None:
        return None
    if piece.cancelling and not is_due(scene, piece):
        return None
    return Want(
        rank,
        Cancel(scene.name, piece.leader_order_id, piece.correlation_id, piece.order_id, renew or piece.renew, why),
    )


def is_changing(piece: Slice) -> bool:
    """Whether the quantity that it has at the broker is not certain."""
    return piece.in_flight is Verb.MODIFY or piece.unknown or piece.is_doubtful or piece.cancelling


def is_unsettled(piece: Slice) -> bool:
    return piece.in_flight is not None or is_changing(piece)

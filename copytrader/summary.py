"""A day's copying in one paragraph, counted while it happens."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime

from copytrader import narrate
from copytrader.core.facts import Alert, Fact, Filled, Level, NotSent, Place, Refused, Sized, Skip, Throttled, Verb
from copytrader.core.model import IST, LEADER
from copytrader.core.state import State


@dataclass(slots=True)
class Tally:
    """What happened on one day, as far as it is recorded; a fact of another day begins a new one.

    `placed` are the orders that the broker did not refuse and that may have reached it.  `on_paper`: it counts a
    dry run.
    """

    on_paper: bool = False
    day: date | None = None
    leader_orders: set[str] = field(default_factory=set)
    placed: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    filled: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    skipped: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    alerts: Counter[Level] = field(default_factory=Counter)

    def add(self, fact: Fact, at: datetime) -> None:
        day = at.astimezone(IST).date()
        if day != self.day:
            self._begin(day)
        match fact:
            case Place(account=account, leader_order_id=leader_order_id, correlation_id=correlation_id):
                self.leader_orders.add(leader_order_id)
                self.placed[account].add(correlation_id)
            case Refused() | Throttled() | NotSent() if fact.verb is Verb.PLACE:
                self.placed[fact.account].discard(fact.correlation_id)
            case Skip(account=account, leader_order_id=leader_order_id, reason=reason):
                self.leader_orders.add(leader_order_id)
                self.skipped[account][leader_order_id] = reason.value
            case Sized(leader_order_id=leader_order_id):
                self.leader_orders.add(leader_order_id)
            case Filled(account=account, order_id=order_id) if account != LEADER:
                self.filled[account].add(order_id)
            case Alert(level=level):
                self.alerts[level] += 1
            case _:
                pass

    @property
    def is_empty(self) -> bool:
        return not self.leader_orders and not self.alerts

    def paragraph(self, state: State) -> str:
        """Tell the day, and what is left."""
        left, paper = list(narrate.left_open(state)), list(narrate.left_on_paper(state))
        parts = [f"Left: {'; '.join(left)}."] if left else []
        parts += [f"On paper: {'; '.join(paper)}."] if paper else []
        return " ".join([self.counts(state), *(parts or ["Nothing is open and nothing is held from copying."])])

    def counts(self, state: State) -> str:
        """Tell the day: the leader's orders, each follower's copies, and alerts."""
        day = f"{self.day:%a %d %b}" if self.day is not None else "today"
        day += ", on paper" if self.on_paper else ""
        orders = _count(len(self.leader_orders - {""}), "order")
        parts = [f"{day}: {orders} of the leader", *self._followers(state)]
        serious = self.alerts[Level.CRITICAL]
        parts.append(_count(self.alerts.total(), "alert") + (f", {serious} critical" if serious else ""))
        return ". ".join(parts) + "."

    def _followers(self, state: State) -> Iterator[str]:
        for name in state.accounts:
            text = f"{name}: {_count(len(self.placed[name]), 'copy', 'copies')}, {len(self.filled[name])} with fills"
            reasons = Counter(self.skipped[name].values())
            if reasons:
                listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
                text += f", {reasons.total()} not copied ({listed})"
            yield text

    def _begin(self, day: date) -> None:
        self.day = day
        for counted in (self.leader_orders, self.placed, self.filled, self.skipped, self.alerts):
            counted.clear()


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"

"""Judges a session by the simulator's book and ledger; the journal is asked only for its reasons.

The names of the checks are those of the invariants at the head of `copytrader.core.engine`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from copytrader.core.facts import Fact, Place, Skip
from copytrader.journal import Journal
from copytrader.simulator import LEADER_ID
from copytrader.simulator.model import BookOrder
from tests.e2e.stage import PATIENCE, Stage

_HURRIED = str(Path(__file__).with_name("hurried.py"))


def hurried(give_up_after: float = 2.0, answer_within: float = 3.0) -> dict[str, Any]:
    """What to give a stage so that its programs wait less: for an order that nobody finds, and for an answer."""
    env = {"GIVE_UP_AFTER": str(give_up_after), "ANSWER_WITHIN": str(answer_within)}
    return {"program": (_HURRIED,), "env": env}


def recorded(stage: Stage) -> list[Fact]:
    with Journal.open(stage.folder / "copytrader.db", read_only=True) as journal:
        assert journal.verify() == []
        return [row.fact for row in journal.facts()]


def places_of(facts: Iterable[Fact], leader_order_id: str, name: str = "asha") -> list[Place]:
    return [
        fact
        for fact in facts
        if isinstance(fact, Place) and fact.account == name and fact.leader_order_id == leader_order_id
    ]


def reasons_of(facts: Iterable[Fact], leader_order_id: str, name: str = "asha") -> list[str]:
    return [
        fact.reason.value
        for fact in facts
        if isinstance(fact, Skip) and fact.account == name and fact.leader_order_id == leader_order_id
    ]


def copies_of(stage: Stage, facts: Iterable[Fact], leader_order_id: str, name: str = "asha") -> list[BookOrder]:
    """What the simulator's book has for one leader order."""
    names = {place.correlation_id for place in places_of(facts, leader_order_id, name)}
    return [order for order in stage.orders(name) if order.correlation_id in names]


def assert_sound(stage: Stage, *, ratio: int = 1) -> list[Fact]:
    """Hold what happened against the invariants, once the session has settled."""
    facts = recorded(stage)
    assert stage.exchange.violations == []
    for name in stage.names:
        assert stage.exchange.limiters[stage.ids[name]].overruns == 0, name
        _assert_no_duplicate(stage, facts, name)
        for order in stage.exchange.book(LEADER_ID):
            _assert_copied_or_explained(stage, facts, order, name, ratio)
    return facts


def _assert_no_duplicate(stage: Stage, facts: list[Fact], name: str) -> None:
    accepted = Counter(order.correlation_id for order in stage.orders(name))
    asked = Counter(
        row.correlation_id
        for row in stage.exchange.ledger.where(kind="request", method="POST", client_id=stage.ids[name])
    )
    assert [key for key, times in (accepted + asked).items() if accepted[key] > 1 or asked[key] > 1] == [], name
    decided = {fact.correlation_id for fact in facts if isinstance(fact, Place) and fact.account == name}
    assert set(asked) <= decided, "sent without being recorded"


def _assert_copied_or_explained(stage: Stage, facts: list[Fact], order: BookOrder, name: str, ratio: int) -> None:
    copies = copies_of(stage, facts, order.order_id, name)
    reasons = reasons_of(facts, order.order_id, name)
    assert copies or reasons, f"{name}: nothing and no reason for {order.order_id}"
    working = [copy for copy in copies if copy.is_open]
    if not order.is_open and order.status != "TRADED":
        assert working == [], f"{name}: left open for {order.order_id}, which is {order.status}: {reasons}"
    if order.is_open and not reasons:
        assert [(copy.terms.quantity, copy.terms.price, copy.terms.order_type) for copy in working] == [
            (order.terms.quantity * ratio, order.terms.price, order.terms.order_type)
        ], f"{name}: {order.order_id}"


async def until_sound(stage: Stage, *, ratio: int = 1) -> list[Fact]:
    """Wait until the session has settled and is sound; what it is not then, the failure says."""
    end = time.monotonic() + PATIENCE
    while True:
        await stage.settles()
        try:
            return assert_sound(stage, ratio=ratio)
        except AssertionError:
            if time.monotonic() > end:
                raise

"""The same world, driven by hypothesis: fewer steps than the seeds, but a failure comes back short."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.simulation.process import Crash
from tests.simulation.swarm import CRASHES, EXTRAS, ORDER_FAULTS, READ_FAULTS, STREAM_FAULTS, Swarm, draw
from tests.simulation.world import World, limits_of, listening

EXAMPLES = int(os.environ.get("COPYTRADER_EXAMPLES", "40"))
_CHOICES = st.integers(0, 2**32)


class Day(RuleBasedStateMachine):
    """A leader trades, things break, time passes; at the end everything has to come right."""

    world: World

    @initialize(seed=st.integers(1, 200))
    def begin(self, seed: int) -> None:
        self.world = World(_quiet(draw(seed)))
        self._contexts = [listening(), limits_of(self.world.swarm)]
        self._said = self._contexts[0].__enter__()
        self._contexts[1].__enter__()
        self.world.begin()
        self.world.loop.run_until(1)

    @rule(choice=_CHOICES)
    def the_leader_enters(self, choice: int) -> None:
        self._acts(choice, self.world.people._enter)

    @rule(choice=_CHOICES)
    def the_leader_gets_out(self, choice: int) -> None:
        people = self.world.people
        held = [each for each in people.nets(people._leader_id).items() if each[1]]
        if held:
            self._acts(choice, lambda: people._get_out_of(*held[choice % len(held)]))

    @rule(choice=_CHOICES)
    def the_leader_changes_an_order(self, choice: int) -> None:
        people = self.world.people
        orders = people._open_of(people._leader_id)
        if orders:
            self._acts(choice, lambda: people._change(orders[choice % len(orders)]))

    @rule(choice=_CHOICES)
    def the_leader_cancels_an_order(self, choice: int) -> None:
        people = self.world.people
        orders = people._open_of(people._leader_id)
        if orders:
            self.world.exchange.cancel(orders[choice % len(orders)].order_id)

    @rule(choice=_CHOICES)
    def the_market_moves(self, choice: int) -> None:
        self._acts(choice, self.world.people._move_price)

    @rule(choice=_CHOICES, of=st.integers(0, 3))
    def an_order_trades(self, choice: int, of: int) -> None:
        people = self.world.people
        ids = list(self.world.client_ids.values())
        orders = people._open_of(ids[of % len(ids)])
        if orders:
            self._acts(choice, lambda: people._fill(orders[choice % len(orders)]))

    @rule(seconds=st.sampled_from((0.001, 0.02, 0.3, 2.0, 8.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.loop.run_until(self.world.loop.time() + seconds)

    @rule(rate=st.sampled_from((0.0, 0.3, 0.7)), kinds=st.sets(st.sampled_from(ORDER_FAULTS), max_size=4))
    def orders_fail(self, rate: float, kinds: set[str]) -> None:
        self.world.swarm = replace(self.world.swarm, order_fault_rate=rate, order_faults=frozenset(kinds))

    @rule(rate=st.sampled_from((0.0, 0.3, 0.7)), kinds=st.sets(st.sampled_from(READ_FAULTS), max_size=4))
    def readings_fail(self, rate: float, kinds: set[str]) -> None:
        self.world.swarm = replace(self.world.swarm, read_fault_rate=rate, read_faults=frozenset(kinds))

    @rule(rate=st.sampled_from((0.0, 0.3, 0.7)), kinds=st.sets(st.sampled_from(STREAM_FAULTS), max_size=4))
    def the_stream_fails(self, rate: float, kinds: set[str]) -> None:
        self.world.swarm = replace(self.world.swarm, stream_fault_rate=rate, stream_faults=frozenset(kinds))

    @rule(extras=st.sets(st.sampled_from(EXTRAS), max_size=3))
    def other_trouble_may_come(self, extras: set[str]) -> None:
        fixed = {"tight_limits", "resting_market", "carried"}
        kept = self.world.swarm.extras & fixed
        self.world.swarm = replace(self.world.swarm, extras=kept | (self.world.swarm.extras | extras) - fixed)

    @rule(choice=_CHOICES, kind=st.sampled_from(("hand_trade", "hand_cancel", "exchange_reject", "halt")))
    def somebody_interferes(self, choice: int, kind: str) -> None:
        self.world.swarm = replace(self.world.swarm, extras=self.world.swarm.extras | {kind})
        self._acts(choice, lambda: self.world.people._interrupt(kind))

    @precondition(lambda self: self.world.process is not None and self.world.process.crash is None)
    @rule(kind=st.sampled_from(CRASHES), nth=st.integers(1, 12))
    def the_process_will_die(self, kind: str, nth: int) -> None:
        process = self.world.process
        assert process is not None
        process._first_step = self.world.loop.steps
        process.crash = Crash(kind, nth)

    @invariant()
    def nothing_is_broken(self) -> None:
        if hasattr(self, "world"):
            assert not self.world.problems, self.world.problems

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.finish()
            self.world.judge.of_secrets(self._said)
            assert not self.world.problems, self.world.problems
            assert not self.world.loop.unhandled, self.world.loop.unhandled
        finally:
            for context in reversed(self._contexts):
                context.__exit__(None, None, None)
            self.world.journal.close()

    def _acts(self, choice: int, act: Callable[[], object]) -> None:
        self.world.people._rng = Random(choice)
        act()


def _quiet(swarm: Swarm) -> Swarm:
    """The seed's accounts and broker, without its troubles: those are the rules' to bring."""
    return replace(
        swarm,
        order_fault_rate=0,
        read_fault_rate=0,
        stream_fault_rate=0,
        crashes=(),
        extras=swarm.extras & {"partial_fill", "tight_limits", "resting_market"},
        on_disk=False,
    )


TestDay = Day.TestCase
TestDay.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

"""Answer one question: what should each follower have, given the leader's order as best known.

`step` takes what happened and returns what to do.  For each copy it compares what the
follower should have with what we last *asked for* and closes the gap, with at most one
command in flight for each order.  Start-up, reconnects, missed, repeated and late
messages all come through here: there is no other path.  No I/O, no clock, no randomness;
the same facts give the same decisions, which is what replay proves.

What must hold, whatever happens (the tests are named after these):

 I1  no duplicate: at most one order for one correlation id, ever
 I2  nothing left open once the leader's order is over
 I3  nothing lost silently: an order or a reason for each leader order and follower
 I4  right size and terms; leader flat means the copied position is flat
 I5  written before sent: every command is a recorded decision first
 I6  unknown is not no
 I7  the order of messages does not matter
 I8  everything open can always be cancelled within the rate limits
 I9  a refusal is never repeated
 I10 only our own orders are touched, and an exit only reduces
 I11 one writer
 I12 allow-listed requests, no secret in any output.
"""

from __future__ import annotations

from copytrader.core import closed_twice, exposure, fixing, sizing
from copytrader.core.budget import Rank
from copytrader.core.copies import Copy, Key, LeaderOrder, copy_of
from copytrader.core.due import total_of
from copytrader.core.facts import Decision, Event, Level, Place, Role, Ticked
from copytrader.core.fold import evolve, recall
from copytrader.core.gap import close_all, close_gap, follow, is_over
from copytrader.core.judging import judge
from copytrader.core.model import SkipReason
from copytrader.core.news import SAY_AGAIN, News
from copytrader.core.scene import Scene, Step, Want, age_of, rules_of, say_once, want_cancel
from copytrader.core.state import Account, Holding, State
from copytrader.core.sweeps import plan_closed, plan_strays, plan_sweep, surplus_of

__all__ = ["evolve", "recall", "step"]


def step(state: State, event: Event) -> tuple[State, tuple[Decision, ...]]:
    """Take in one event and decide what follows from it.

    The state that is passed is advanced and returned; do not use the old one again.
    """
    at = event.at
    news = evolve(state, event, at)
    taken = Step(state, at)
    for note in news.notes:
        taken.decide(note)
    if isinstance(event, Ticked):
        for key, follower in state.woken(at):
            news.touch(key, follower)
    _plan_all(taken, news)
    return state, tuple(taken.decisions)


def _plan_all(desk: Step, news: News) -> None:
    """Plan what was touched; when that is more than one holding, everything that cancels or closes goes first."""
    state = desk.state
    parts = [part for key, follower in news.touched if (part := _part(state, key, follower)) is not None]
    if len(parts) > 1 and any(holding is not parts[0][0] for holding, _ in parts):
        for holding, account in parts:
            _plan(desk, holding, account, Rank.EXIT)
    for holding, account in parts:
        _plan(desk, holding, account, Rank.ENTRY)


def _part(state: State, key: Key, follower: str) -> tuple[Holding, Account] | None:
    """Return a follower's part in a holding, if it may be planned; where the broker refuses it, reasons are due."""
    account, holding = state.accounts.get(follower), state.holdings.get(key)
    if account is None or holding is None or not (account.ready or account.blocked is not None):
        return None
    if state.copying and not (state.leader_ready and holding.leader_net is not None):
        return None
    return holding, account


def _plan(desk: Step, holding: Holding, account: Account, least: Rank) -> None:
    state, follower = desk.state, account.follower.name
    share = holding.shares.get(follower)
    if share is None:
        if not holding.active:
            return
        share = state.share(holding, follower)
    scene = Scene(desk, holding, account, share)
    wants: list[Want] = []
    if state.copying:
        wants += _plan_orders(scene)
    else:
        scene.surplus = surplus_of(scene)
        wants += plan_closed(scene)
    if share.fixes or (share.open and any(piece.copy is None for piece in share.open.values())):
        wants += _plan_fixes(scene)
        wants += plan_strays(scene)
    if scene.surplus > 0 or share.sweeps:
        wants += plan_sweep(scene, wants)
    if len(wants) > 1:
        wants.sort(key=lambda each: each.rank)
    for want in wants:
        if want.rank <= least:
            _emit(scene, want)
    if account.foreign_open:
        _say_beside(scene)


def _say_beside(scene: Scene) -> None:
    """Warn of an order of the account's own that rests beside an exit of ours: both may close the same position."""
    found = closed_twice.rests_beside(scene.holding.key, scene.account, scene.share)
    if found is None:
        return
    order_id, seen_at = found
    if scene.at < seen_at + closed_twice.RESTS_AFTER:
        scene.wake(seen_at + closed_twice.RESTS_AFTER)
        return
    text = (
        f"the account's own order {order_id} and an exit of ours both work, and would close more than is held: where "
        "both trade, the account stands on the other side; cancel your own, unless that is wanted"
    )
    say_once(scene, Level.WARNING, text, "beside")


def _plan_orders(scene: Scene) -> list[Want]:
    """Judge every order before any gap is closed: what one may come to depends on what the others are due."""
    orders = [(order, copy_of(order, scene.name)) for order in scene.holding.active.values()]
    kept = {
        order.number
        for order, copy in sorted(orders, key=lambda each: _opens(scene, *each))
        if judge(scene, order, copy)
    }
    due = [each for each in orders if each[0].number in kept]
    scene.surplus = surplus_of(scene)
    wants: list[Want] = []
    for order, copy in orders:
        if not copy.slices or not is_over(order, copy):
            continue
        if copy.was_sent:
            wants += close_all(scene, copy, _why_over(order, copy))
        elif copy.closed is not None and copy.skip is None and not copy.is_open:
            scene.desk.skip(copy, copy.closed, "its placing never reached the broker")
    if len(due) > 1:
        due.sort(key=_turn)
    for order, copy in due:
        wants += close_gap(scene, order, copy, total_of(scene, order, copy))
    return wants


def _opens(scene: Scene, order: LeaderOrder, copy: Copy) -> bool:
    """Whether it opens still: what has a size and opens nothing any more gives that back before others take it."""
    return not copy.lots or scene.parts(order).opens > 0


def _turn(due: tuple[LeaderOrder, Copy]) -> tuple[bool, bool]:
    """Exits come first, and of them those that close at once: what they close is not there for the others."""
    order = due[0]
    return not order.only_exits, not (order.known.is_filled or exposure.is_immediate(order))


def _why_over(order: LeaderOrder, copy: Copy) -> str:
    if order.known.is_dead or copy.closed is None:
        return f"the leader's order is {order.known.ended or 'over'}"
    return "copying is halted" if copy.closed is SkipReason.HALTED else f"the copy was given up: {copy.closed}"


def _plan_fixes(scene: Scene) -> list[Want]:
    """Carry on with a plan of the operator's."""
    if not scene.share.fixes and not fixing.open_entries(scene.share):
        return []
    todo = fixing.plan(scene.state, scene.holding, scene.account, scene.share, scene.at)
    for skip in todo.skips:
        scene.desk.decide(skip)
    if todo.wake is not None:
        scene.wake(todo.wake)
    wants = [want_cancel(scene, piece, why) for piece, why in todo.cancels]
    wants += [Want(Rank.EXIT if place.role is Role.EXIT else Rank.ENTRY, place) for place in todo.places]
    return [want for want in wants if want is not None]


def _emit(scene: Scene, want: Want) -> None:
    """Let a command go if the rate budget allows it, else look again when it may."""
    budget, needed = scene.account.budget, _needed(scene) if want.rank > Rank.EXIT else 0
    if budget.allows(want.rank, needed, scene.at):
        scene.desk.decide(want.command)
        if want.order is not None:
            follow(scene.state.slices[want.command.correlation_id], want.order)
        return
    if isinstance(want.command, Place) and want.rank is Rank.ENTRY and want.order is not None:
        copy = copy_of(want.order, scene.name)
        most = rules_of(scene.state).max_age_seconds
        if (exposure.is_immediate(want.order) or want.order.known.is_done) and age_of(scene, want.order) > most:
            left = "/".join(str(each) for each in budget.left(scene.at))
            detail = f"no room within {most} s; calls left in the second/minute/hour/day: {left}"
            scene.desk.skip(copy, SkipReason.RATE_BUDGET, detail)
            return
    if want.rank <= Rank.EXIT:
        _say_exhausted(scene)
    elif budget.is_short(want.rank, needed, scene.at):
        _say_kept(scene, want)
    scene.wake(budget.retry_at(want.rank, needed, scene.at))


def _needed(scene: Scene) -> int:
    """How many calls it takes to cancel what is open and to close what is held from copying."""
    account, state = scene.account, scene.state
    needed = len(account.open)
    for key, holding in state.holdings.items():
        share = holding.shares.get(scene.name)
        if share is not None and share.left:
            instrument = state.instruments.get(key.security)
            largest = sizing.largest_order(instrument) if instrument is not None else 0
            needed += -(-abs(share.left) // largest) if largest else 1
    return needed


def _say_exhausted(scene: Scene) -> None:
    """Alert that exits wait because no call is left for the minute or longer, and again while that lasts."""
    account, window = scene.account, scene.account.budget.exhausted(scene.at)
    said = account.exhausted_said.get(window)
    if not window or (said is not None and scene.at < said + SAY_AGAIN):
        return
    account.exhausted_said[window] = scene.at
    text = f"{scene.name}: exits and cancels wait: no call is left of the {window} in Dhan's limits"
    scene.desk.alert(Level.CRITICAL, f"{text}; close by hand what cannot wait", scene.name, f"calls-{scene.name}")


def _say_kept(scene: Scene, want: Want) -> None:
    """Say that an exit that rests, or its new price, waits for calls that others may need more."""
    kept = "the calls that are left of Dhan's limits are kept for what closes now and for cancels"
    if want.rank is Rank.TRAIL:
        say_once(scene, Level.WARNING, f"new prices of resting exits wait: {kept}", "trail")
    elif want.rank is Rank.REST:
        order_id = want.command.leader_order_id
        text = f"an exit that is to rest (the leader's order {order_id}) is not placed, or not made larger, yet: {kept}"
        say_once(scene, Level.CRITICAL, f"{text}; close by hand what cannot wait", f"kept-{order_id}")

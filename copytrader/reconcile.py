"""Carrying a plan out, and taking over orders of a lost journal.

A plan is carried out by the one process that may send: by `follow` where it runs, by a short session of our own
where it does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from copytrader import errand, session
from copytrader.config import Config
from copytrader.core import fixing
from copytrader.core.facts import Adopted, FixOrdered
from copytrader.core.model import LEADER, Order
from copytrader.core.reconcile import planning
from copytrader.core.reconcile.picture import FindingKind
from copytrader.core.state import State
from copytrader.errand import Say
from copytrader.failure import ExitCode, Failure
from copytrader.lock import LockHeld
from copytrader.looking import Done, Looker, Report, Request, connected

UNKNOWN_SETTLES_WITHIN = 135.0
"""An order whose placing was not answered is known, or given up as absent, by then."""
HEARD_WITHIN = 10.0


async def fix(config: Config, request: Request, say: Say) -> Report:
    """Show the plan, ask, check it against fresh books, carry it out and look again."""
    config.check_for_follow()
    async with connected(config, say) as looker:
        try:
            return await _fix_alone(config, looker, request, say)
        except LockHeld as held:
            if not errand.is_follow(held):
                raise
        return await _fix_by_follow(config, looker, request, say)


async def _fix_alone(config: Config, looker: Looker, request: Request, say: Say) -> Report:
    """Carry a plan out in a session of our own, which holds the lock from before the first look."""
    names = request.scope.followers or frozenset(config.enabled)
    found, _ = errand.tokens_of(config, (LEADER, *(name for name in config.enabled if name in names)))
    if request.adopt:
        await _ask_adopt(looker, request)
    async with errand.short_session(config, "reconcile", found, say, adopt=request.adopt, market=looker.market) as own:
        copier = own.copier

        def unknown() -> bool:
            return any(piece.follower in names for piece in copier.state.unknowns())

        if unknown():
            say("an order's outcome is not known yet: looking it up first")
            await own.until(lambda: not unknown(), UNKNOWN_SETTLES_WITHIN)
        agreed = await _agreed(looker, request, lambda: copier.state)
        if isinstance(agreed, Report):
            return agreed
        for word in agreed.words:
            copier.handle(word)
        with _until_interrupted(say):
            await own.until(lambda: _is_over(copier.state, agreed.words), request.wait)
        done = tuple(_results(copier.state, agreed.words))
        return await _looked_again(looker, request, done, copier.state)


async def _fix_by_follow(config: Config, looker: Looker, request: Request, say: Say) -> Report:
    """Hand a plan over to the running follow, and look on until it is carried out."""
    onlooker = looker.onlooker
    errand.refuse_dry_run(config)
    if request.adopt:
        await _adopt_by_follow(config, looker, request)
    agreed = await _agreed(looker, request, lambda: None)
    if isinstance(agreed, Report):
        return agreed
    say("follow is running: it carries the plan out")
    heard = [errand.leave_word(config, word) for word in agreed.words]
    if not await errand.until(lambda: all(onlooker.heard(word) for word in heard), HEARD_WITHIN):
        raise Failure("the running follow did not hear the plan; it is void in a minute", code=ExitCode.UNKNOWN_OUTCOME)
    with _until_interrupted(say):
        await errand.until(lambda: _is_over(onlooker.look(), agreed.words), request.wait, every=0.2)
    done = tuple(_results(onlooker.look(), agreed.words))
    return await _looked_again(looker, request, done, None)


@contextmanager
def _until_interrupted(say: Say) -> Iterator[None]:
    """Let Ctrl-C end the waiting for what was sent, and nothing else: what became of it is still told."""
    try:
        yield
    except asyncio.CancelledError:
        say("interrupted: what was sent is not waited for any more, and is not cancelled")


@dataclass(frozen=True, slots=True)
class _Agreed:
    words: tuple[FixOrdered, ...]


async def _agreed(looker: Looker, request: Request, state: Callable[[], State | None]) -> Report | _Agreed:
    """Show and ask; then look again, and go on only if the plan would be the same."""
    report = await looker.look(request, state())
    _refuse_strays(report)
    sent = [step for step in report.plan if not step.held_back]
    request.ask(report.plan)
    if not sent:
        return report
    again = await looker.look(request, state())
    if not planning.same(report.plan, again.plan):
        raise Failure(
            "the world has moved since the plan was made: nothing was sent", "run it again", code=ExitCode.SAFETY
        )
    return _Agreed(planning.fixes(again.plan, again.picture.at))


def _refuse_strays(report: Report) -> None:
    strays = [finding for finding in report.picture.findings if finding.kind is FindingKind.STRAY]
    if strays:
        listed = ", ".join(f"{finding.follower} {finding.order_id}" for finding in strays)
        raise Failure(
            f"orders of a copier that this journal does not know: {listed}",
            "another copier may serve these accounts, or the journal was lost: "
            "make sure that no other runs, then say --adopt",
            code=ExitCode.SAFETY,
        )


async def _looked_again(looker: Looker, request: Request, done: tuple[Done, ...], state: State | None) -> Report:
    """The picture after all is done; what was not, is worse than a drift."""
    report = await looker.look(request, state)
    is_unknown = any(each.outcome == fixing.UNKNOWN for each in done)
    return Report(report.picture, report.plan, ExitCode.UNKNOWN_OUTCOME if is_unknown else report.code, done)


def _is_over(state: State, words: Sequence[FixOrdered]) -> bool:
    """Whether nothing of the plans waits or works any more."""
    for word in words:
        account = state.accounts[word.account]
        if word.plan_id not in account.plans:
            return False
        if not all(fixing.is_finished(state, account, each) for each in account.plans[word.plan_id]):
            return False
        if any((word.account, order_id) in _open_ids(state, word.account) for order_id in word.cancels):
            return False
    return True


def _open_ids(state: State, name: str) -> set[tuple[str, str]]:
    return {(name, piece.order_id) for piece in state.accounts[name].open.values()}


def _results(state: State, words: Sequence[FixOrdered]) -> list[Done]:
    found = []
    for word in words:
        account = state.accounts[word.account]
        for each in account.plans.get(word.plan_id, ()):
            instrument = state.instruments.get(each.ticket.security)
            symbol = instrument.symbol if instrument is not None else each.ticket.security.security_id
            expiry = instrument.expiry if instrument is not None else None
            piece = fixing.last_piece(state, account, each)
            order_id, filled = ("", 0) if piece is None else (piece.order_id, piece.filled)
            outcome = fixing.outcome(state, account, each)
            terms = (each.ticket.side, each.ticket.quantity)
            found.append(Done(word.account, symbol, *terms, filled, order_id, outcome, expiry))
    return found


# --- Adopting ----------------------------------------------------------------------------------


async def adopt(config: Config, request: Request, say: Say) -> Report:
    """Take over the orders with our prefix that the journal does not know, and look."""
    async with connected(config, say) as looker:
        try:
            await _ask_adopt(looker, request)
            found, _ = errand.tokens_of(config, tuple(config.enabled))
            async with errand.short_session(config, "reconcile", found, say, adopt=True, market=looker.market) as own:
                state = own.copier.state
                await own.until(lambda: not any(_adopted_open(state)), request.wait)
        except LockHeld as held:
            if not errand.is_follow(held):
                raise
            await _adopt_by_follow(config, looker, request)
        return await looker.look(request)


def _adopted_open(state: State) -> list[str]:
    return [
        piece.order_id for account in state.accounts.values() for piece in account.open.values() if piece.cancelling
    ]


async def _ask_adopt(looker: Looker, request: Request) -> dict[str, tuple[Order, ...]]:
    """Show which orders would be taken over, and ask."""
    strays = (await looker.look(request)).picture.strays
    if strays:
        request.ask_adopt([f"{name} {order.order_id}" for name, orders in strays.items() for order in orders])
    return strays


async def _adopt_by_follow(config: Config, looker: Looker, request: Request) -> None:
    words = [
        errand.leave_word(config, Adopted(session.now(), name, orders))
        for name, orders in (await _ask_adopt(looker, request)).items()
    ]
    if words and not await errand.until(lambda: all(map(looker.onlooker.heard, words)), HEARD_WITHIN):
        raise Failure("the running follow did not hear the word", code=ExitCode.FAILED)

"""Stopping the copying, and starting it again: the operator's word, carried out and watched until it is done.

The word goes into the journal first, durably, so that whatever happens next, the next
`follow` begins halted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from copytrader import errand, narrate, session
from copytrader.config import Config
from copytrader.core import copied_position, left_out
from copytrader.core.copies import Slice
from copytrader.core.facts import Adopted, Alert, Ended, Fact, Filled, Halted, Level, Resumed, Role
from copytrader.core.model import OrderStatus
from copytrader.core.outcomes import remedy
from copytrader.core.state import Account, Share, State
from copytrader.errand import Onlooker, Say
from copytrader.failure import ExitCode, Failure
from copytrader.journal import JournalError
from copytrader.lock import LockHeld

HEARD_WITHIN = 10.0
DONE_WITHIN = 45.0
_TOLD = ("token-", "stray-")
"""Keys of alerts whose matter an outcome tells in its own words."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one follower: `open` copies the broker has not confirmed as closed, `held` from copying.

    Since the word was taken: how many orders were `cancelled`, what was `closed`, which orders of a copier that the
    journal did not know were `taken_over`, and what was `said` of it that is critical.  `given_up`: exits failed, and
    are not tried again.
    """

    follower: str
    halted: bool = True
    open: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    problem: str = ""
    cancelled: int = 0
    closed: tuple[str, ...] = ()
    taken_over: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What became of each follower; `by_follow` where a running follow did it, and not a session of our own.

    `left_out`: what followers have whom the configuration leaves out, which a halt does not reach.
    """

    followers: tuple[Outcome, ...]
    by_follow: bool = False
    code: ExitCode = ExitCode.FINE
    flatten: bool = False
    left_out: tuple[str, ...] = ()


async def halt(config: Config, follower: str | None, say: Say, *, flatten: bool) -> Report:
    """Halt at once: no new entries, open copies cancelled until the broker confirms, positions exited if wanted."""
    names = errand.known_followers(config, follower)
    errand.refuse_dry_run(config)
    word = errand.leave_word(config, Halted(session.now(), follower, flatten, "by hand"))
    credentials, missing = errand.tokens_of(config, names)
    try:
        async with errand.short_session(config, "halt", credentials, say, adopt=True) as own:
            served = [name for name in names if name in credentials]
            await own.until(lambda: _is_done(own.copier.state, served, flatten=flatten), DONE_WITHIN)
            state = own.copier.state
        done = _done(Onlooker(config.journal).since(word), state)
    except LockHeld as held:
        if not errand.is_follow(held):
            raise _only_recorded(held) from None
        return _with_left_out(*await _by_follow(config, names, word, flatten=flatten), follower)
    except Failure as failure:
        raise _only_recorded(failure) from None
    return _with_left_out(_report(state, names, missing, done, flatten=flatten), state, follower)


def _only_recorded(failure: Failure) -> Failure:
    if isinstance(failure, JournalError):
        return Failure(
            *failure.lines,
            "nothing is halted: open copies may still be working, so cancel them at Dhan; halt again once the journal "
            "can be used, since a halt in one that is moved away is gone with it",
            code=failure.code,
        )
    return Failure(
        *failure.lines,
        "the halt is recorded, and the next follow begins halted; open copies may still be working at the broker",
        code=failure.code,
    )


async def _by_follow(config: Config, names: Collection[str], word: int, *, flatten: bool) -> tuple[Report, State]:
    onlooker = Onlooker(config.journal)
    if not await errand.until(lambda: onlooker.heard(word), HEARD_WITHIN):
        raise Failure(
            "the running follow has not heard the word yet; it is in the journal and will be taken",
            "if follow hangs, stop it and halt again",
            code=ExitCode.FAILED,
        )
    await errand.until(lambda: _is_done(onlooker.look(), names, flatten=flatten), DONE_WITHIN, every=0.2)
    state = onlooker.look()
    return _report(state, names, {}, _done(onlooker.since(word), state), flatten=flatten, by_follow=True), state


def _with_left_out(report: Report, state: State, follower: str | None) -> Report:
    """Add whom the halt was meant for too, and cannot reach."""
    if follower is not None:
        return report
    told = tuple(f"{name} {has}" for name, has in left_out.left_out(state).items())
    code = ExitCode.FINDINGS if told and report.code is ExitCode.FINE else report.code
    return replace(report, left_out=told, code=code)


def _is_done(state: State, names: Collection[str], *, flatten: bool) -> bool:
    for name in names:
        account = state.accounts.get(name)
        if account is None or account.blocked is not None:
            continue
        if not account.halted or not account.ready or _ending(account, flatten=flatten):
            return False
        if flatten and any(held and not _is_given_up(share) for _, share, held in _shares(state, name)):
            return False
    return True


def _ending(account: Account, *, flatten: bool) -> list[Slice]:
    """Open orders that are to be closed: all but exits that the leader has sent since, or that flatten."""
    return [
        piece
        for piece in account.open.values()
        if piece.role is Role.ENTRY or piece.cancelling or flatten or (piece.copy is not None and piece.copy.closed)
    ]


def _is_given_up(share: Share) -> bool:
    return share.sweeps_failed >= 3


def _shares(state: State, name: str) -> Iterator[tuple[str, Share, int]]:
    """Each copied position with its symbol and what of it the broker still shows."""
    for key, holding in state.holdings.items():
        share = holding.shares.get(name)
        if share is not None and share.copied:
            sign = 1 if share.copied > 0 else -1
            held = sign * copied_position.held(holding, share, sign)
            yield f"{state.named(key.security)} {key.product}", share, held


@dataclass(slots=True)
class _Done:
    """What was done at one follower."""

    cancelled: int = 0
    closed: Counter[str] = field(default_factory=Counter)
    taken_over: list[str] = field(default_factory=list)
    said: dict[str, None] = field(default_factory=dict)


def _done(facts: Iterable[Fact], state: State) -> dict[str, _Done]:
    """Count for each follower what was done since the word was taken."""
    done = defaultdict[str, _Done](_Done)
    for fact in facts:
        match fact:
            case Ended(account=name, status=OrderStatus.CANCELLED):
                done[name].cancelled += 1
            case Filled(account=name, correlation_id=correlation_id, quantity=quantity):
                piece = state.slices.get(correlation_id)
                if piece is not None and piece.role is Role.EXIT:
                    closed = f"{state.named(piece.key.security)} {piece.key.product}"
                    done[name].closed[closed] += piece.asked.side.sign * quantity
            case Adopted(account=name, orders=orders):
                done[name].taken_over += [order.order_id for order in orders]
            case Alert(level=Level.CRITICAL, account=str(name), text=text, key=key) if not key.startswith(_TOLD):
                done[name].said[text.removeprefix(f"{name}: ")] = None
            case _:
                pass
    return done


def _report(
    state: State,
    names: Collection[str],
    missing: dict[str, str],
    done: dict[str, _Done],
    *,
    flatten: bool,
    by_follow: bool = False,
) -> Report:
    outcomes = tuple(_outcome(state, name, missing.get(name, ""), done, flatten=flatten) for name in names)
    code = ExitCode.FINE
    if missing or any(state.accounts[name].blocked for name in names if name in state.accounts):
        code = ExitCode.TOKEN
    elif any(each.problem for each in outcomes):
        code = ExitCode.FAILED
    elif any(piece.unknown for name in names if name in state.accounts for piece in state.accounts[name].open.values()):
        code = ExitCode.UNKNOWN_OUTCOME
    elif any(each.open or (flatten and each.held) for each in outcomes):
        code = ExitCode.FINDINGS
    return Report(outcomes, by_follow, code, flatten)


def _outcome(state: State, name: str, problem: str, done: dict[str, _Done], *, flatten: bool) -> Outcome:
    account = state.accounts.get(name)
    if account is None:
        return Outcome(name, False, problem=problem or "the journal does not know it yet")
    if account.blocked is not None:
        problem = f"the broker refuses the account's {account.blocked.lower()} ({remedy(name, account.blocked)})"
    elif not problem and not account.ready:
        problem = "its books cannot be read"
    did = done.get(name, _Done())
    return Outcome(
        name,
        account.halted,
        tuple(narrate.working(piece, state) for piece in _ending(account, flatten=flatten)),
        tuple(f"{held:+} {symbol}" for symbol, _, held in _shares(state, name) if held),
        problem,
        did.cancelled,
        tuple(f"{'sold' if units < 0 else 'bought'} {abs(units)} {what}" for what, units in did.closed.items()),
        tuple(did.taken_over),
        tuple(did.said),
        any(held and _is_given_up(share) for _, share, held in _shares(state, name)),
    )


# --- Resuming ----------------------------------------------------------------------------


def halted_now(config: Config, follower: str | None) -> tuple[str, ...]:
    """Return the followers meant that are halted, counting the words that nobody has taken yet."""
    names = errand.known_followers(config, follower)
    onlooker = Onlooker(config.journal)
    halted = errand.halted(config, onlooker.look(), onlooker.unheard())
    return tuple(name for name in names if name in halted)


async def resume(config: Config, follower: str | None) -> bool:
    """Leave the word; tell whether a running follow has taken it, so that it copies again from now on."""
    errand.refuse_dry_run(config)
    word = errand.leave_word(config, Resumed(session.now(), follower, "by hand"))
    onlooker = Onlooker(config.journal)
    try:
        with session.locked(config, "resume"):
            return False
    except LockHeld as held:
        if not errand.is_follow(held):
            return False
    return await errand.until(lambda: onlooker.heard(word), HEARD_WITHIN)

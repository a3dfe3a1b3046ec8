"""What the broker answers to a command, and what an answer that does not come proves: nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

from copytrader.core.copies import Slice
from copytrader.core.facts import Accepted, Level, NotFound, NotSent, Refused, Role, Skip, Throttled, Unanswered, Verb
from copytrader.core.follower_orders import locate, reclaim
from copytrader.core.in_force import is_as_asked
from copytrader.core.model import OrderStatus, RefusalClass, SkipReason
from copytrader.core.news import News
from copytrader.core.outcomes import (
    LOST_TOKEN,
    block,
    close_piece,
    end_piece,
    in_words,
    note_refusal,
    refuse_modification,
    take_back,
)
from copytrader.core.state import Account, State

ABSENT_AFTER = timedelta(seconds=120)
_CANCEL_SETTLES = timedelta(seconds=3)
_UNREACHED, _UNREACHED_FOR = 3, timedelta(seconds=15)
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_STUCK_AFTER = 3
_TOO_MANY = "too many requests (429); does another program use the account?"
_VERBS = {Verb.MODIFY: "changed", Verb.CANCEL: "cancelled"}


def take_answer(
    state: State, answer: Accepted | Refused | Throttled | Unanswered | NotSent, at: datetime, news: News
) -> None:
    piece = state.slices.get(answer.correlation_id)
    account = state.accounts.get(answer.account)
    if piece is None or account is None or piece.follower != answer.account:
        return
    news.touch(piece.key, piece.follower)
    _note_reach(account, piece, answer, news)
    if piece.ended is not None:
        return
    if piece.in_flight is answer.verb:
        piece.in_flight = None
    _pause(piece, answer, at, news)
    if answer.verb is Verb.PLACE and piece.known is not None and not isinstance(answer, Accepted):
        _doubt(state, account, piece, answer, at)
        return
    match answer:
        case Accepted():
            if answer.verb is Verb.PLACE and _belongs_to_another(state, account, piece, answer.order_id):
                piece.unknown = True
                state.ask_books.add(piece.follower)
                return
            piece.accepted_at = at
            if answer.verb is Verb.PLACE:
                piece.unknown = False
                reclaim(state, account, piece, answer.order_id)
                locate(state, piece, answer.order_id)
            else:
                if answer.verb is Verb.MODIFY:
                    piece.maybe.clear()
                state.ask_books.add(piece.follower)
                end_piece(state, account, piece, news)
        case Refused():
            _refuse(state, account, piece, answer, news)
        case Throttled():
            account.budget.throttled(at)
            _take_back(state, account, piece, answer.verb)
        case NotSent():
            if answer.verb is Verb.PLACE:
                account.budget.uncount(piece.placed_at)
            _take_back(state, account, piece, answer.verb)
        case Unanswered():
            piece.unknown = answer.verb is Verb.PLACE
            if answer.verb is Verb.MODIFY and piece.asked_before:
                piece.maybe.append(piece.asked_before[-1])
            state.ask_books.add(piece.follower)


def _belongs_to_another(state: State, account: Account, piece: Slice, order_id: str) -> bool:
    """Whether an answer names an order that we know by another name, or for the person's: it proves nothing.

    An order that was seen without a name is the person's where it was there before ours, or has other terms.
    """
    known = state.by_order_id.get((piece.follower, order_id), piece)
    seen = account.foreign.get(order_id)
    is_the_person_s = seen is not None and (seen[1] < piece.placed_at or not is_as_asked(piece, seen[0]))
    return known is not piece or is_the_person_s


def _note_reach(
    account: Account, piece: Slice, answer: Accepted | Refused | Throttled | Unanswered | NotSent, news: News
) -> None:
    """Count what never left in a row; say when that lasts, louder for an exit, and when it is over."""
    name = account.follower.name
    if isinstance(answer, NotSent | Throttled):
        account.unreached += 1
        account.unreached_since = account.unreached_since or answer.at
        if account.unreached >= _UNREACHED or answer.at - account.unreached_since >= _UNREACHED_FOR:
            _say_unreached(account, piece, answer, news)
    elif not isinstance(answer, Unanswered):
        if account.unreached_said is not None:
            level = Level.WARNING if account.unreached_said is Level.CRITICAL else Level.INFO
            news.alert(level, f"{name} can be reached again, and takes what is sent", name, f"reached-{name}")
        account.unreached, account.unreached_since, account.unreached_said = 0, None, None


def _say_unreached(account: Account, piece: Slice, answer: NotSent | Throttled, news: News) -> None:
    name, said = account.follower.name, account.unreached_said
    exits, what, why = "its exits do not leave", f"{name} cannot be reached", answer.detail
    if isinstance(answer, Throttled):
        exits, what, why = "its exits are not taken", f"{name}: Dhan takes no orders", answer.detail or _TOO_MANY
    if piece.role is Role.EXIT and said is not Level.CRITICAL:
        account.unreached_said = Level.CRITICAL
        text = f"{what}: {exits}, and go on being tried: {why}"
        news.alert(Level.CRITICAL, text, name, f"unreached-exits-{name}")
    elif said is None:
        account.unreached_said = Level.WARNING
        news.alert(Level.WARNING, f"{what}: {why}", name, f"unreached-{name}")


def _doubt(
    state: State, account: Account, piece: Slice, answer: Refused | Throttled | Unanswered | NotSent, at: datetime
) -> None:
    """The order was seen: it is there, whatever its placing is answered.  The book has the last word."""
    if isinstance(answer, Throttled):
        account.budget.throttled(at)
    state.ask_books.add(piece.follower)


def _pause(
    piece: Slice, answer: Accepted | Refused | Throttled | Unanswered | NotSent, at: datetime, news: News
) -> None:
    """Say when the same may be tried again: an accepted cancel gets time to show, a failure waits longer each time."""
    if answer.verb is Verb.PLACE:
        return
    if isinstance(answer, Accepted):
        if piece.tries >= _STUCK_AFTER:
            news.alert(Level.INFO, f"{_named(piece)}: {_VERBS[answer.verb]} after all", piece.follower, _stuck(piece))
        piece.tries = 0
        piece.retry_at = at + _CANCEL_SETTLES if answer.verb is Verb.CANCEL else None
        return
    piece.retry_at = at + timedelta(seconds=_PAUSES[min(piece.tries, len(_PAUSES) - 1)])
    piece.tries += 1
    if piece.tries == _STUCK_AFTER and isinstance(answer, Refused | Unanswered) and not _is_final(piece, answer):
        _say_stuck(piece, answer, news)


def _is_final(piece: Slice, answer: Refused | Unanswered) -> bool:
    """Whether a modification is given up: refused for a reason that stays, or for one that is not clear thrice.

    No other refusal is final: the book is read, and it is decided again.
    """
    if isinstance(answer, Unanswered) or answer.verb is not Verb.MODIFY:
        return False
    if answer.refusal is RefusalClass.OTHER:
        return piece.tries >= _STUCK_AFTER
    return answer.refusal not in (RefusalClass.TRANSIT, RefusalClass.TOKEN, RefusalClass.IP)


def _say_stuck(piece: Slice, answer: Refused | Unanswered, news: News) -> None:
    """An order that stays as it is at the broker is a risk, the greater where it should close something, or be gone."""
    why = answer.message if isinstance(answer, Refused) else answer.detail or "no answer came"
    text = f"could not be {_VERBS[answer.verb]} in {piece.tries} attempts: {why}"
    level = Level.CRITICAL if answer.verb is Verb.CANCEL or piece.role is Role.EXIT else Level.WARNING
    news.alert(level, f"{_named(piece)} {text}", piece.follower, _stuck(piece))


def _named(piece: Slice) -> str:
    return f"{piece.follower}: order {piece.order_id or piece.correlation_id}"


def _stuck(piece: Slice) -> str:
    return f"stuck-{piece.correlation_id}"


def _refuse(state: State, account: Account, piece: Slice, answer: Refused, news: News) -> None:
    if answer.verb is Verb.PLACE:
        if answer.order_id:
            locate(state, piece, answer.order_id)
        piece.void = piece.role is Role.EXIT and answer.refusal in LOST_TOKEN
        close_piece(state, account, piece, OrderStatus.REJECTED)
        note_refusal(state, account, piece, answer.refusal, answer.message, news)
        if not answer.message:
            state.ask_books.add(piece.follower)
        return
    state.ask_books.add(piece.follower)
    if answer.refusal in LOST_TOKEN:
        block(state, piece.follower, answer.refusal, answer.message, news)
    if answer.verb is not Verb.MODIFY or piece.refused_modify is not None:
        return
    attempted = piece.terms
    if _is_final(piece, answer):
        refuse_modification(piece, answer.message, news)
        piece.tries = 0
    else:
        take_back(piece)
    if answer.refusal is RefusalClass.ENDED:
        piece.maybe.append(piece.terms)
    elif answer.refusal is RefusalClass.OTHER and attempted not in piece.maybe:
        piece.maybe.append(attempted)  # what was not refused clearly may have been made for all that


def _take_back(state: State, account: Account, piece: Slice, verb: Verb) -> None:
    """The request provably had no effect: as if it had not been made."""
    if verb is Verb.PLACE:
        piece.void = True
        close_piece(state, account, piece, OrderStatus.REJECTED)
    elif verb is Verb.MODIFY:
        take_back(piece)
        piece.modifications -= 1


def _say_lost(state: State, piece: Slice, news: News) -> None:
    """Say that an exit may not be there: what it was to close is held until that is certain."""
    until = piece.placed_at + ABSENT_AFTER
    text = f"{piece.follower}: the exit {in_words(state, piece)} was not answered, and is not found: "
    text += f"it is looked for until {until:%H:%M:%S}, and what it was to close stays open"
    news.alert(Level.CRITICAL, text, piece.follower, f"lost-{piece.correlation_id}")


def give_up(state: State, event: NotFound, at: datetime, news: News) -> None:
    piece = state.slices.get(event.correlation_id)
    if piece is None or not piece.unknown or piece.order_id:
        return
    piece.not_found += 1
    if at - piece.placed_at < ABSENT_AFTER or piece.not_found < 2:
        if piece.role is Role.EXIT and piece.not_found == 2:
            _say_lost(state, piece, news)
        return
    piece.absent = True
    account = state.accounts[piece.follower]
    close_piece(state, account, piece, OrderStatus.REJECTED)
    detail = f"sent at {piece.placed_at:%H:%M:%S}, not answered, and not found since; it is not sent again"
    news.notes.append(Skip(piece.follower, piece.leader_order_id, SkipReason.ABSENT, detail, piece.correlation_id))
    text = f"{piece.follower}: {in_words(state, piece)} was {detail}"
    news.alert(Level.CRITICAL, text, piece.follower, f"absent-{piece.correlation_id}")
    news.touch(piece.key, piece.follower)

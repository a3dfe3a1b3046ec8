"""Whose an account's token is, and whose the orders in its book are.

A token is held against the broker's profile, an order that bears our prefix against the journal.  What is another's
ends the start; once copying has begun, it holds back the account that has it, alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Protocol

from copytrader.account import Account
from copytrader.core.facts import Adopted, Event, Halted, Level, OrderSeen, Source, TokenRefused, TokenRenewed
from copytrader.core.model import LEADER, Order, RefusalClass
from copytrader.core.state import State
from copytrader.dhan.bodies import Profile
from copytrader.dhan.broker import BrokerError, TokenError
from copytrader.failure import ExitCode, Failure


class Door(Protocol):
    """Where what is found comes in."""

    @property
    def state(self) -> State:
        """What is known now."""

    @property
    def is_running(self) -> bool:
        """Whether the run has begun, and its start is taken in or about to be."""

    def handle(self, event: Event) -> object: ...

    def handle_all(self, happened: Sequence[tuple[Event, int | None]]) -> object:
        """Take events in, each with the seq of the fact that caused it."""

    def notice(self, level: Level, text: str, account: str | None = None, key: str = "") -> None: ...

    async def wait_a_while(self, work: Iterable[Awaitable[None]]) -> None:
        """Wait for what is to be done with each account, but not long."""


class Identity:
    """Sees to it that each account is the one that it is taken for, and that nobody else copies to it."""

    def __init__(
        self,
        accounts: Mapping[str, Account],
        now: Callable[[], datetime],
        door: Door,
        *,
        adopt: bool = False,
        copying: bool = True,
    ) -> None:
        self._accounts = accounts
        self._now = now
        self._door = door
        self._adopt = adopt
        self._copying = copying

    @property
    def _state(self) -> State:
        return self._door.state

    @property
    def _has_begun(self) -> bool:
        """Whether something may have been copied in this run."""
        return self._copying and self._state.leader_ready

    # --- Whose token it is ----------------------------------------------------------------

    async def check_tokens(self) -> None:
        """Hold each token against its account; raise where it is another's, or the leader's is refused."""
        await self._door.wait_a_while([self._check_token(account) for account in self._accounts.values()])

    async def _check_token(self, account: Account) -> None:
        account.unchecked = account.name != LEADER
        try:
            profile = await account.broker.profile()
        except TokenError as error:
            if account.name == LEADER:
                raise Failure(
                    f"leader.access_token is not accepted: {error.cause}",
                    "get today's with: copytrader login leader",
                    code=ExitCode.TOKEN,
                ) from None
            return  # the first reading of its book is refused too, and blocks the account
        except BrokerError as error:
            account.say(f"the token cannot be checked: {error}")
            return
        finally:
            account.unchecked = False
        if account.profile is None:  # else it has a new token by now, which was checked
            account.profile = profile
            self._judge_token(account, profile)

    def _judge_token(self, account: Account, profile: Profile) -> None:
        """Refuse a token of another account; once copying has begun, hold back the account that has it, alone."""
        if account.name == LEADER or not self._has_begun:
            require_own(account, profile)
        if not account.is_own:
            whose = f"it belongs to client {profile.client_id}, not to {account.client_id}"
            self._door.handle(TokenRefused(self._now(), account.name, RefusalClass.TOKEN, whose))
        # Before the start nothing may be planned, and the start forgets refusals anyway.
        elif self._door.is_running and self.is_refused(account.name):
            self._door.handle(TokenRenewed(self._now(), account.name))

    def is_refused(self, name: str) -> bool:
        """Whether the broker refused the account's token or address, and nothing better is known since."""
        if name == LEADER:
            return self._state.leader_blocked
        known = self._state.accounts.get(name)
        return known is not None and known.blocked is not None

    def note_trouble(self, account: Account, error: BrokerError) -> None:
        """Say that an account cannot be read, and take in where that is because its token is refused."""
        if isinstance(error, TokenError) and not self.is_refused(account.name):
            self._door.handle(TokenRefused(self._now(), account.name, error.refusal, error.cause))
        account.say(f"cannot be read: {error}")

    async def recheck(self, name: str) -> None:
        """Ask the broker again what it thinks of an account's token."""
        account = self._accounts[name]
        try:
            account.profile = await account.broker.profile()
        except BrokerError as error:
            self.note_trouble(account, error)

    def renewed(self, name: str, profile: Profile) -> None:
        """Go on with an account's new token, which was checked: read its book, log its stream in again."""
        account = self._accounts[name]
        account.profile = profile
        self._door.handle(TokenRenewed(self._now(), name))
        account.stream.force_reconnect("a new access token")
        account.poke.set()

    def mended(self, name: str) -> None:
        """Go on with an account that the broker refused and now accepts as it is."""
        self._door.handle(TokenRenewed(self._now(), name))
        self._accounts[name].poke.set()

    # --- Whose orders they are ------------------------------------------------------------

    def meet(self, name: str, rows: Sequence[Order]) -> None:
        """Before a follower's book is taken in for the first time, see whose orders are in it.

        Orders with our prefix that the journal does not know are of another copier, or the journal was lost.
        """
        unknown = [row for row in rows if row.is_ours and not _is_known(self._state, name, row)]
        if unknown:
            self._door.handle_all([(OrderSeen(self._now(), name, row, Source.BOOK), None) for row in unknown])
        known = self._state.accounts.get(name)
        strays = tuple(row for row in rows if known is not None and row.order_id in known.strays)
        if strays and self._adopt:
            self._door.handle(Adopted(self._now(), name, strays))
        elif strays:
            self._refuse(name, strays)

    def _refuse(self, name: str, strays: Sequence[Order]) -> None:
        """Begin nothing beside another copier; once copying has begun, or where it is halted, hold back it alone."""
        what = f"orders of a copier that this journal does not know: {', '.join(row.order_id for row in strays)}"
        is_halted = self._state.accounts[name].halted
        if not (self._has_begun or (self._copying and is_halted)):
            raise Failure(
                f"{name} has {what}",
                "another copier may serve this account, or the journal was lost: "
                "make sure that no other runs, then start with --adopt",
                code=ExitCode.SAFETY,
            )
        if not is_halted:
            self._door.handle(Halted(self._now(), name, detail=what))
        text = (
            f"{name}: {what}: it is halted, and the others are copied to; make sure that no other copier serves it, "
            f"then run `copytrader reconcile --adopt` and `copytrader resume --follower {name}`"
        )
        self._door.notice(Level.CRITICAL, text, name, f"another-{name}")


def _is_known(state: State, name: str, row: Order) -> bool:
    """Whether the journal knows an order to be this follower's."""
    piece = state.by_order_id.get((name, row.order_id)) or state.slices.get(row.correlation_id)
    return piece is not None and piece.follower == name


async def check_whose(accounts: Iterable[Account]) -> None:
    """Hold each token against the account whose books are to be read with it; who cannot be asked is read anyway."""

    async def check(account: Account) -> None:
        with suppress(BrokerError):
            require_own(account, await account.broker.profile())

    await asyncio.gather(*map(check, accounts))


def require_own(account: Account, profile: Profile) -> None:
    """Raise Failure where a token is another account's: what is read with it would be taken for this account's."""
    if profile.client_id != account.client_id:
        where = "leader" if account.name == LEADER else f"followers.{account.name}"
        raise Failure(
            f"{where}.access_token belongs to client {profile.client_id}, not to {account.client_id}",
            code=ExitCode.TOKEN,
        )

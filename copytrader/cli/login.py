"""`copytrader login`: today's access token of each account."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from copytrader.cli.options import AsJson, ConfigPath
from copytrader.failure import ExitCode, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from pydantic import SecretStr

    from copytrader.config import Config
    from copytrader.login import Login

Account = Annotated[
    str | None, typer.Argument(help="leader or a follower's name; every account that is served if left out.")
]
Paste = Annotated[
    bool, typer.Option("--paste", help="Ask for a token copied from Dhan's web site, or read it from a pipe.")
]
Renew = Annotated[
    bool,
    typer.Option(
        "--renew", help="Renew the live token, however long it is good; Dhan allows it for tokens made on its web site."
    ),
]
New = Annotated[bool, typer.Option("--new", help="Make a new token even if the present one is good for long enough.")]
Hours = Annotated[float, typer.Option(min=0, max=24, help="How many hours a token must still live to be kept.")]


def login(
    account: Account = None,
    config: ConfigPath = None,
    paste: Paste = False,
    renew: Renew = False,
    new: New = False,
    hours: Hours = 8,
    as_json: AsJson = False,
) -> ExitCode:
    """Get today's access token: by PIN and one-time password, pasted, or renewed.

    PIN and one-time password are asked for, or come from $COPYTRADER_PIN_NAME and $COPYTRADER_TOTP_NAME (the
    secret, or the six digits). A running follow picks a new token up.
    """
    from datetime import timedelta

    from copytrader.config import load

    if paste and renew:
        raise Failure("--paste and --renew exclude each other", code=ExitCode.USAGE)
    settings = load(config)
    names = _names(settings, account)
    if paste and len(names) > 1:
        raise Failure("--paste needs the account that the token is for", code=ExitCode.USAGE)
    done: list[Login] = []
    failed: list[str] = []
    for name in names:
        try:
            done.append(_one(settings, name, paste, renew, new, timedelta(hours=hours)))
        except Failure as failure:
            failed += [line if line.startswith(f"{name}:") else f"{name}: {line}" for line in failure.lines]
    _show(done, as_json)
    if failed:
        raise Failure(*failed, code=ExitCode.TOKEN)
    return ExitCode.FINE


def _names(settings: Config, account: str | None) -> list[str]:
    from copytrader.core.model import LEADER

    if account is None:
        return [LEADER, *settings.enabled]
    known = [LEADER, *settings.followers]
    if account not in known:
        raise Failure(f"{account} is no account of {settings.path}: it has {', '.join(known)}", code=ExitCode.USAGE)
    return [account]


def _one(settings: Config, name: str, paste: bool, renew: bool, new: bool, at_least: timedelta) -> Login:
    import asyncio

    from copytrader import login

    if paste:
        return asyncio.run(login.by_token(settings, name, _pasted(name)))
    if renew:
        login.refuse_too_soon(settings, name)
        return asyncio.run(login.by_renewal(settings, name))
    if not new:
        kept = asyncio.run(login.still_good(settings, name, at_least))
        if kept is not None:
            return kept
    login.refuse_too_soon(settings, name)
    client_id = settings.account(name).client_id
    pin = _secret(name, "PIN", f"PIN of {name} ({client_id})")
    totp = _secret(name, "TOTP", f"one-time password of {name}: the 6 digits, or their secret")
    return asyncio.run(login.by_pin(settings, name, pin, totp))


def _secret(name: str, kind: str, prompt: str) -> SecretStr:
    """Take a secret from the environment or ask for it; never from the command line, where others can read it."""
    import os
    import sys

    from pydantic import SecretStr

    variable = f"COPYTRADER_{kind}_{re.sub(r'[-_]+', '_', name).upper()}"
    value = os.environ.get(variable, "")
    if not value and sys.stdin.isatty():
        value = typer.prompt(prompt, hide_input=True, err=True)
    if not value:
        raise Failure(f"{name}: set ${variable}, or run this at a terminal", code=ExitCode.TOKEN)
    return SecretStr(value.strip())


def _pasted(name: str) -> SecretStr:
    import sys

    from pydantic import SecretStr

    if sys.stdin.isatty():
        return SecretStr(typer.prompt(f"access token of {name}", hide_input=True, err=True).strip())
    return SecretStr(sys.stdin.readline().strip())


def _show(done: Iterable[Login], as_json: bool) -> None:
    from copytrader import render
    from copytrader.login import Outcome, now, section_of

    logins = list(done)
    if as_json:
        render.document(logins)
        return
    words = {Outcome.KEPT: "kept, good for long enough", Outcome.PASTED: "taken as pasted"}
    for each in logins:
        hours, minutes = divmod(int((each.valid_until - now()).total_seconds()) // 60, 60)
        render.line(
            f"{each.account} ({each.client_id}): {words.get(each.outcome, each.outcome)}, "
            f"valid until {each.valid_until:%a %d %b %H:%M} IST ({hours} h {minutes:02} min)"
        )
        if each.shadowed_by:
            render.notice(
                f"{each.account}: {section_of(each.account)}.access_token in {each.shadowed_by} goes before "
                "the stored token, and a new token ends the old one: take it out"
            )

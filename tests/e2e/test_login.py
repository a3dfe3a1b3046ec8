"""`copytrader login` against the simulator's login service."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pyotp
import pytest
from pydantic import SecretStr

from copytrader import login, tokens
from copytrader.config import load
from copytrader.core.model import IST
from copytrader.failure import Failure
from copytrader.simulator import token_of
from copytrader.simulator.tokens import totp
from tests.e2e.stage import ROOT, Stage

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
ENV = {"COPYTRADER_PIN_ASHA": "1234", "COPYTRADER_TOTP_ASHA": SECRET}


def without_tokens(stage: Stage) -> None:
    lines = stage.config.read_text().splitlines(keepends=True)
    stage.config.write_text("".join(line for line in lines if not line.startswith("access_token")))


def stored(stage: Stage, name: str = "asha") -> tokens.StoredToken | None:
    return tokens.stored_token(stage.ids[name], {tokens.STATE_DIR: str(stage.folder / "state")})


async def logs_in(stage: Stage, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, list[str], list[str]]:
    program = await stage.runs("login", *arguments, env=ENV if env is None else env)
    return await program.ends(), program.out, program.err


async def pastes(stage: Stage, token: str, *arguments: str) -> tuple[int, str]:
    """Log in with a token from a pipe."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "copytrader", "login", "--paste", "--config", str(stage.config), *arguments),
        env={**os.environ, "PYTHONPATH": str(ROOT), tokens.STATE_DIR: str(stage.folder / "state")},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate(token.encode())
    assert process.returncode is not None
    return process.returncode, out.decode()


def test_a_token_is_minted_checked_and_stored_and_then_kept(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            without_tokens(stage)
            account = stage.exchange.accounts[stage.ids["asha"]]
            account.totp_secret = SECRET
            code, out, err = await logs_in(stage, "asha")
            assert (code, err) == (0, [])
            assert out[0].startswith(f"asha ({stage.ids['asha']}): minted, valid until ")
            assert out[0].endswith(" IST (23 h 59 min)")
            kept = stored(stage)
            assert kept is not None
            assert kept.access_token.get_secret_value() == account.access_token
            assert abs(kept.expires_at - datetime.now(IST) - timedelta(hours=24)) < timedelta(minutes=2)

            code, out, _ = await logs_in(stage, "asha")
            assert (code, stored(stage)) == (0, kept)
            assert "kept, good for long enough" in out[0]
            code, out, err = await logs_in(stage, "asha", "--hours", "24")
            assert (code, out) == (4, []), "it lives a minute less than a day, and minting again is too soon"
            assert "Dhan makes one token in two minutes and was last asked at" in err[0]
            assert stage.exchange.violations == []
            shown = "".join([*out, *err])
            assert SECRET not in shown
            assert account.access_token not in shown

    asyncio.run(test())


def test_a_damaged_token_is_replaced_by_a_login(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            without_tokens(stage)
            file = stage.folder / "state" / "tokens" / stage.ids["asha"]
            file.parent.mkdir(parents=True)
            file.write_text("{")
            file.chmod(0o600)

            assert (await logs_in(stage, "asha"))[0] == 0
            assert stored(stage) is not None

    asyncio.run(test())


def test_never_within_two_minutes_whatever_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tokens.STATE_DIR, str(tmp_path / "state"))

    async def test() -> None:
        async with Stage(tmp_path) as stage:
            config = load(stage.config)
            tokens.stamp_minting(stage.ids["asha"], datetime.now(IST) - timedelta(seconds=119))
            with pytest.raises(Failure, match=r"try again in [12] s"):
                await login.by_pin(config, "asha", SecretStr("1234"), SecretStr("123456"))
            assert [row for row in stage.exchange.ledger if "generate" in (row.path or "")] == []
            tokens.stamp_minting(stage.ids["asha"], datetime.now(IST) - timedelta(seconds=121))
            done = await login.by_pin(config, "asha", SecretStr("1234"), SecretStr("123456"))
            assert done.outcome is login.Outcome.MINTED
            tokens.stamp_minting(stage.ids["asha"], datetime.now(IST) + timedelta(days=1))
            login.refuse_too_soon(config, "asha")  # a clock that was wrong then holds nobody up now

    asyncio.run(test())


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"COPYTRADER_PIN_ASHA": "9999", "COPYTRADER_TOTP_ASHA": "123456"}, "asha: Dhan refuses: Invalid Pin"),
        ({"COPYTRADER_PIN_ASHA": "12a4", "COPYTRADER_TOTP_ASHA": "123456"}, "asha: the PIN must be 4 to 8 digits"),
        ({"COPYTRADER_PIN_ASHA": "1234", "COPYTRADER_TOTP_ASHA": "1!"}, "asha: the one-time password must be"),
        ({"COPYTRADER_PIN_ASHA": "1234"}, "asha: set $COPYTRADER_TOTP_ASHA, or run this at a terminal"),
        ({}, "asha: set $COPYTRADER_PIN_ASHA, or run this at a terminal"),
    ],
)
def test_a_wrong_pin_or_password_is_one_line_and_may_be_mended_at_once(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            without_tokens(stage)
            code, out, err = await logs_in(stage, "asha", env=environment)
            assert (code, out, len(err)) == (4, [], 1)
            assert err[0].startswith(words)
            assert stored(stage) is None
            assert (await logs_in(stage, "asha"))[0] == 0

    asyncio.run(test())


def test_dhans_own_refusal_of_minting_too_often_is_remembered(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            without_tokens(stage)
            assert (await logs_in(stage, "asha"))[0] == 0
            (tmp_path / "state" / "tokens" / f"{stage.ids['asha']}.minted").unlink()
            _, _, err = await logs_in(stage, "asha", "--new")
            assert err == ["asha: Dhan refuses: Token can be generated once every 2 minutes."]
            _, _, err = await logs_in(stage, "asha", "--new")
            assert "try again in" in err[0]

    asyncio.run(test())


def test_every_account_is_logged_in_and_one_failure_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1", "1")) as stage:
            without_tokens(stage)
            env = {f"COPYTRADER_PIN_{name}": "1234" for name in ("LEADER", "RAVI")}
            env |= {f"COPYTRADER_TOTP_{name}": "123456" for name in ("LEADER", "ASHA", "RAVI")}
            code, out, err = await logs_in(stage, "--json", env={**env, "COPYTRADER_PIN_ASHA": "4321"})
            done = json.loads("\n".join(out))
            assert [(each["account"], each["outcome"]) for each in done] == [("leader", "minted"), ("ravi", "minted")]
            assert (code, err) == (4, ["asha: Dhan refuses: Invalid Pin"])

    asyncio.run(test())


def test_a_pasted_token_is_taken_if_it_is_the_accounts(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1", "1")) as stage:
            without_tokens(stage)
            code, said = await pastes(stage, token_of(stage.ids["ravi"]), "asha")
            wanted = (
                f"asha: the token belongs to client {stage.ids['ravi']}, not to {stage.ids['asha']}; nothing is stored"
            )
            assert (code, said.strip(), stored(stage)) == (4, wanted, None)
            code, said = await pastes(stage, "an-unknown-token", "asha")
            assert (code, stored(stage)) == (4, None)
            assert said.startswith("asha: nothing is stored, Dhan answered with status 401: ")
            assert said.strip().endswith(": get another token")
            assert "copytrader login" not in said
            code, said = await pastes(stage, "", "asha")
            assert (code, said.strip()) == (4, "asha: what was pasted is not an access token")
            code, said = await pastes(stage, token_of(stage.ids["asha"]) + "\n", "asha")
            assert code == 0
            assert "taken as pasted, valid until" in said
            kept = stored(stage)
            assert kept is not None
            assert kept.access_token.get_secret_value() == token_of(stage.ids["asha"])
            assert token_of(stage.ids["asha"]) not in said

    asyncio.run(test())


def test_a_live_token_of_the_web_is_renewed(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            without_tokens(stage)
            await pastes(stage, token_of(stage.ids["asha"]), "asha")
            code, out, err = await logs_in(stage, "asha", "--renew", env={})
            assert (code, err) == (0, [])
            assert "renewed, valid until" in out[0]
            kept = stored(stage)
            assert kept is not None
            assert kept.access_token.get_secret_value() == stage.exchange.accounts[stage.ids["asha"]].access_token
            stage.exchange.expire_token(stage.ids["asha"])
            code, _, err = await logs_in(stage, "asha", "--renew", env={})
            assert code == 4
            assert err[0].startswith("asha: Dhan refuses: DH-901")

    asyncio.run(test())


def test_a_configured_token_before_the_stored_one_is_pointed_out(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            code, out, err = await logs_in(stage, "asha", "--new")
            assert (code, len(out)) == (0, 1)
            where = f"followers.asha.access_token in {stage.config}"
            assert err == [f"asha: {where} goes before the stored token, and a new token ends the old one: take it out"]

    asyncio.run(test())


def test_an_unreachable_login_service_is_said_without_its_address(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            without_tokens(stage)
            stage.config.write_text(
                stage.config.read_text().replace(f'"{stage.url}/auth"', '"http://127.0.0.1:9/auth"')
            )
            code, out, err = await logs_in(stage, "asha")
            assert (code, out, len(err)) == (4, [], 1)
            assert err[0].startswith("asha: Dhan's login service cannot be reached: ")
            assert "1234" not in err[0]

    asyncio.run(test())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody",), "nobody is no account of"),
        (("--paste",), "--paste needs the account that the token is for"),
        (("asha", "--paste", "--renew"), "--paste and --renew exclude each other"),
    ],
)
def test_a_wrong_use_is_one_line(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            code, out, err = await logs_in(stage, *arguments)
            assert (code, out, len(err)) == (2, [], 1)
            assert err[0].startswith(words)

    asyncio.run(test())


# --- one-time passwords --------------------------------------------------------------------


def test_a_one_time_password_is_made_from_a_secret_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "now", lambda: datetime(2026, 11, 24, 9, 0, tzinfo=IST))
    long, short = SECRET, "JBSW Y3DP EHPK 3PXP"

    assert login.one_time_password(SecretStr(long)).get_secret_value() == pyotp.TOTP(long).at(login.now())
    # RFC 6238 by hand: pyotp refuses a key as short as that.
    assert login.one_time_password(SecretStr(short)).get_secret_value() == by_hand(short.replace(" ", ""))
    assert login.one_time_password(SecretStr("123 456")).get_secret_value() == "123456"


def by_hand(secret: str) -> str:
    return totp(secret, login.now())

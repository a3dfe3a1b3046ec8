from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from copytrader import tokens
from copytrader.cli import app
from copytrader.core.model import IST

WriteConfig = Callable[..., Path]
RUN = CliRunner()
SECRETS = """
[alerts]
urls = ["tgram://hush-hush/chat", "ntfys://hush-hush"]

[followers.ravi]
client_id = "1000000003"
proxy = "http://user:hush-hush@198.51.100.4:3128"
enabled = false
[followers.ravi.limits]
unlimited = true
[followers.ravi.sizing]
mode = "lots"
lots = 2
"""


def shown(path: Path) -> dict[str, tuple[object, str]]:
    done = RUN.invoke(app, ["config", "show", "--json", "--config", str(path)])
    assert done.exit_code == 0, done.stderr
    assert "hush-hush" not in done.output
    assert "asha-token" not in done.output
    return {row["key"]: (row["value"], row["origin"]) for row in json.loads(done.stdout)}


def test_every_value_is_shown_with_its_origin(write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(SECRETS)
    monkeypatch.setenv("COPYTRADER_COPY__MAX_AGE_SECONDS", "20")
    rows = shown(path)

    assert rows["journal"] == (str(path.parent / "copytrader.db"), "default")
    assert rows["copy.max_age_seconds"] == (20, "COPYTRADER_COPY__MAX_AGE_SECONDS")
    assert rows["copy.poll_seconds"] == (5, "default")
    assert rows["followers.asha.limits.max_order_lots"] == (20, str(path))
    assert rows["followers.ravi.sizing.lots"] == (2, str(path))
    assert rows["followers.ravi.enabled"] == (False, str(path))


def test_secrets_are_shown_as_being_there_only(write_config: WriteConfig) -> None:
    path = write_config(SECRETS)
    rows = shown(path)

    assert rows["leader.access_token"] == ("**********", str(path))
    assert rows["followers.ravi.proxy"] == ("**********", str(path))
    assert rows["followers.asha.proxy"] == ("", "default")
    assert rows["alerts.urls"] == (["**********", "**********"], str(path))
    assert rows["followers.ravi.access_token"] == (None, "default")


def test_a_stored_token_is_named_as_such(write_config: WriteConfig) -> None:
    until = datetime.now(IST) + timedelta(hours=3)
    tokens.store_token("1000000003", SecretStr("hush-hush-too"), until)
    assert shown(write_config(SECRETS))["followers.ravi.access_token"] == (
        "**********",
        f"copytrader login, until {until:%Y-%m-%d %H:%M}",
    )
    (tokens.state_dir() / "tokens" / "1000000003").chmod(0o644)
    assert shown(write_config(SECRETS))["followers.ravi.access_token"] == ("cannot be read", "copytrader login")


@pytest.mark.parametrize("form", [[], ["--csv"]])
def test_it_is_a_table_too(write_config: WriteConfig, form: list[str]) -> None:
    done = RUN.invoke(app, ["--config", str(write_config(SECRETS)), "config", "show", *form])

    assert done.exit_code == 0
    assert "copy.market_hours" in done.stdout
    assert "hush-hush" not in done.output


def test_a_configuration_with_mistakes_is_not_shown(write_config: WriteConfig) -> None:
    done = RUN.invoke(app, ["config", "show", "--config", str(write_config("[copy]\npoll_seconds = -1"))])

    assert (done.exit_code, done.stdout) == (2, "")

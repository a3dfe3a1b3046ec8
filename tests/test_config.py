from __future__ import annotations

import dataclasses
import os
import re
import stat
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from copytrader import config, tokens
from copytrader.config import Config, ConfigError
from copytrader.core.model import (
    Calendar,
    CopyRules,
    Filter,
    Follower,
    LateExits,
    Limits,
    Product,
    Side,
    Sizing,
    SizingMode,
)
from copytrader.failure import ExitCode, Failure

WriteConfig = Callable[..., Path]

# The example of the contract, whole.
FULL = """
journal = "data/copytrader.db"

[dhan]
api_url          = "https://api.dhan.co/v2"
auth_url         = "https://auth.dhan.co"
order_update_url = "wss://api-order-update.dhan.co"
instruments_url  = "https://images.dhan.co/api-data/api-scrip-master-detailed.csv"

[leader]
client_id    = "1000000001"
access_token = "leader-token"

[copy]
max_age_seconds = 10
poll_seconds    = 0.5
market_hours    = "off"
late_exits      = "skip"
stop_limit_percent = 2.5
market_wait_seconds = 7
reprice_attempts = 2
calendar = "calendar.toml"

[followers.asha]
client_id      = "1000000002"
access_token   = "asha-token"
enabled        = true
proxy          = "http://user:proxy-password@10.0.0.1:3128"
source_address = "10.0.0.2"

[followers.asha.sizing]
mode  = "ratio"
ratio = 0.5
adverse_move_percent = 4

[followers.asha.limits]
max_order_value       = 500000
max_order_lots        = 20
max_position_lots     = 40
max_open_positions    = 10
max_daily_loss        = 20000
max_orders_per_minute = 60

[followers.asha.filter]
segments            = ["NSE_FNO"]
products            = ["INTRADAY", "margin"]
underlyings         = ["nifty"]
exclude_underlyings = ["BANKNIFTY"]
sides               = ["BUY"]

[followers.ravi]
client_id = "1000000003"
enabled = false
limits = { unlimited = true }

[alerts]
urls = ["json://alert-secret@example.com/"]
"""


def mistakes(path: Path, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(path, env or {})
    return [line.replace(str(path), "copytrader.toml") for line in caught.value.lines]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ('log = "copytrader.db"', "log must be a file of its own, {folder}/copytrader.db is the journal's ({file})"),
        (
            'log = "copytrader.db-wal"',
            "log must be a file of its own, {folder}/copytrader.db-wal is the journal's ({file})",
        ),
        (
            'log = "copytrader.toml"',
            "log must be a file of its own, {folder}/copytrader.toml is the configuration's ({file})",
        ),
        ('log = "linked"', "log must be a file of its own, {folder}/linked is the configuration's ({file})"),
        (
            'log = "copytrader.instruments.db"',
            "log must be a file of its own, {folder}/copytrader.instruments.db is that of the instruments ({file})",
        ),
        (
            'journal = "copytrader.toml"',
            "journal must be a file of its own, {folder}/copytrader.toml is the configuration's ({file})",
        ),
    ],
)
def test_no_two_keys_may_name_one_file(write_config: WriteConfig, keys: str, line: str) -> None:
    path = write_config(text=keys + "\n" + follower("limits.unlimited = true"))
    os.link(path, path.with_name("linked"))

    assert mistakes(path) == [
        line.format(folder=path.parent, file="copytrader.toml").replace(str(path), "copytrader.toml")
    ]


def test_a_pipe_in_place_of_the_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)

    assert mistakes(tmp_path / "pipe") == ["copytrader.toml is no file: name another with --config"]


def test_a_file_that_anybody_can_replace_is_refused(write_config: WriteConfig) -> None:
    path = write_config(text=follower("limits.unlimited = true"))
    path.parent.chmod(0o777)

    assert mistakes(path) == [f"copytrader.toml can be replaced by others: run chmod o-w {path.parent}"]


def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(write_config: WriteConfig) -> None:
    path = write_config(text=follower('access_token = "abc def é"\nlimits.unlimited = true'))

    [line] = mistakes(path)
    assert line.startswith("followers.asha.access_token must be one word of plain characters, as Dhan gives it")
    assert "abc" not in line


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        ('["ntfys://canary, json://canary"]', "alerts.urls.0 must be one address: write each as an entry of its own"),
        ('["ntfys://canary json://canary"]', "alerts.urls.0 must be one address: write each as an entry of its own"),
        ('["json://x", "canary"]', "alerts.urls.1 must be an address with its kind, such as tgram://token/chat"),
    ],
)
def test_what_is_not_one_address_for_alerts_is_refused_and_not_shown(
    write_config: WriteConfig, urls: str, said: str
) -> None:
    path = write_config(text=follower(f"limits.unlimited = true\n[alerts]\nurls = {urls}"))

    [line] = mistakes(path)
    assert line.startswith(said)
    assert "canary" not in line


def test_an_address_for_alerts_may_hold_commas_and_another_address(write_config: WriteConfig) -> None:
    url = "mailtos://me:word@example.com?to=a@example.com,b@example.com&avatar=https://example.com/x"
    path = write_config(text=follower(f'limits.unlimited = true\n[alerts]\nurls = ["{url}"]'))

    assert [each.get_secret_value() for each in config.load(path, {}).alerts.urls] == [url]


def follower(section: str) -> str:
    return f"""
        [leader]
        client_id = "1000000001"
        [followers.asha]
        client_id = "1000000002"
        {section}
    """


def test_the_whole_contract_becomes_a_desk(write_config: WriteConfig) -> None:
    path = write_config(text=FULL)
    calendar = Calendar(years=(2026,))

    desk = config.load(path, {}).desk(calendar)

    assert desk.leader_client_id == "1000000001"
    assert desk.calendar is calendar
    assert desk.rules == CopyRules(
        max_age_seconds=10,
        late_exits=LateExits.SKIP,
        enforce_hours=False,
        market_wait_seconds=7,
        stop_limit_percent=Decimal("2.5"),
        reprice_attempts=2,
    )
    assert desk.followers == (
        Follower(
            "asha",
            "1000000002",
            Sizing(mode=SizingMode.RATIO, ratio=Decimal("0.5"), adverse_move_percent=Decimal(4)),
            Limits(Decimal(500_000), 20, 40, 10, Decimal(20_000), 60),
            Filter(("NSE_FNO",), (Product.INTRADAY, Product.MARGIN), ("NIFTY",), ("BANKNIFTY",), (Side.BUY,)),
        ),
    )


def test_defaults_are_those_of_the_engine_and_of_dhan_itself(write_config: WriteConfig) -> None:
    loaded = config.load(write_config(), {})
    desk = loaded.desk(Calendar())

    assert desk.rules == CopyRules()
    assert desk.followers[0].sizing == Sizing()
    assert desk.followers[0].filter == Filter()
    assert loaded.copy_rules.poll_seconds == 5
    assert loaded.dhan.api_url == "https://api.dhan.co/v2"
    assert not loaded.dhan.is_simulated
    assert loaded.alerts.urls == ()


def test_a_ratio_is_taken_as_written_not_as_a_binary_fraction(write_config: WriteConfig) -> None:
    path = write_config("[followers.asha.sizing]\nratio = 0.1")

    assert config.load(path, {}).followers["asha"].sizing.ratio == Decimal("0.1")


def test_paths_are_relative_to_the_file(write_config: WriteConfig, tmp_path: Path) -> None:
    loaded = config.load(write_config(text=FULL), {})

    assert loaded.journal == tmp_path / "data/copytrader.db"
    assert loaded.instruments_path == tmp_path / "data/copytrader.instruments.db"
    assert loaded.calendar == tmp_path / "calendar.toml"


def test_sizing_by_lots_and_by_risk_reach_the_desk(write_config: WriteConfig) -> None:
    lots = write_config('[followers.asha.sizing]\nmode = "lots"\nlots = 3')
    assert config.load(lots, {}).desk(Calendar()).followers[0].sizing == Sizing(SizingMode.LOTS, lots=3)

    risk = write_config("""
        [followers.asha.sizing]
        mode = "risk"
        risk_percent = 1.5
        adverse_move_percent = 4
        capital = 500000
    """)
    assert config.load(risk, {}).desk(Calendar()).followers[0].sizing == Sizing(
        SizingMode.RISK, risk_percent=Decimal("1.5"), adverse_move_percent=Decimal(4), capital=Decimal(500_000)
    )


# --- where the file is found ---------------------------------------------------------


def test_the_path_asked_for_goes_before_the_environment_and_that_before_here(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = write_config()
    other, third = tmp_path / "other.toml", tmp_path / "third.toml"
    for copy in (other, third):
        copy.write_bytes(here.read_bytes())
        copy.chmod(0o600)
    monkeypatch.chdir(tmp_path)

    assert config.load(None, {}).path == here
    assert config.load(None, {"COPYTRADER_CONFIG": str(other)}).path == other
    assert config.load(third, {"COPYTRADER_CONFIG": str(other)}).path == third


def test_the_users_config_directory_comes_last(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = tmp_path / "home/copytrader"
    usual.mkdir(parents=True)
    write_config().rename(usual / "copytrader.toml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: usual)

    assert config.load(None, {}).path == usual / "copytrader.toml"


def test_no_file_anywhere_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "none")

    with pytest.raises(ConfigError, match="`copytrader init` writes one"):
        config.load(None, {})


def test_a_file_asked_for_that_is_absent_is_named(tmp_path: Path) -> None:
    assert mistakes(tmp_path / "copytrader.toml") == [
        "copytrader.toml does not exist: name another with --config, or write one with `copytrader init`"
    ]


# --- who may read and write it -------------------------------------------------------


@pytest.mark.parametrize("mode", [0o604, 0o640])
def test_a_token_that_others_can_read_is_refused_with_the_remedy(write_config: WriteConfig, mode: int) -> None:
    assert mistakes(write_config(mode=mode)) == [
        "copytrader.toml holds a secret and others can read it: run chmod 600 copytrader.toml"
    ]


@pytest.mark.parametrize(
    "secret", ['[alerts]\nurls = ["json://x"]', 'proxy = "http://u:p@h:1"\nlimits.unlimited = true']
)
def test_any_secret_counts_as_one(write_config: WriteConfig, secret: str) -> None:
    text = f'[leader]\nclient_id = "1"\n[followers.asha]\nclient_id = "2"\n{secret}'

    assert "holds a secret" in mistakes(write_config(text=text, mode=0o644))[0]


def test_a_file_without_a_secret_may_be_read_by_all(write_config: WriteConfig) -> None:
    path = write_config(text='[leader]\nclient_id = "1000000001"\n', mode=0o644)

    assert config.load(path, {}).leader.access_token is None


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_change_is_refused_even_without_a_secret(write_config: WriteConfig, mode: int) -> None:
    path = write_config(text='[leader]\nclient_id = "1000000001"\n', mode=mode)

    assert mistakes(path) == ["copytrader.toml can be changed by others: run chmod 600 copytrader.toml"]


def test_a_symbolic_link_is_refused(write_config: WriteConfig, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(write_config())

    with pytest.raises(ConfigError, match="is a symbolic link: name the file itself"):
        config.load(link, {})


def test_a_file_of_another_user_is_refused(write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config()
    os.chown(path, 12_345, -1) if os.geteuid() == 0 else monkeypatch.setattr(os, "geteuid", lambda: 12_345)

    assert "belongs to another user: run chown" in mistakes(path)[0]


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path, {})


# --- the environment -----------------------------------------------------------------


def test_the_environment_goes_over_the_file_whatever_the_case_of_the_name(write_config: WriteConfig) -> None:
    loaded = config.load(
        write_config(),
        {
            "COPYTRADER_JOURNAL": "elsewhere.db",
            "COPYTRADER_COPY__MAX_AGE_SECONDS": "20",
            "COPYTRADER_FOLLOWERS__ASHA__ACCESS_TOKEN": "other-token",
            "COPYTRADER_FOLLOWERS__Asha__SIZING__RATIO": "0.25",
            "COPYTRADER_FOLLOWERS__ASHA__ENABLED": "false",
            "COPYTRADER_FOLLOWERS__ASHA__FILTER__SEGMENTS": "NSE_FNO, NSE_EQ",
            "COPYTRADER_FOLLOWERS__ASHA__FILTER__SIDES": '["SELL"]',
        },
    )
    asha = loaded.followers["asha"]

    assert loaded.journal.name == "elsewhere.db"
    assert loaded.copy_rules.max_age_seconds == 20
    assert asha.access_token == SecretStr("other-token")
    assert asha.sizing.ratio == Decimal("0.25")
    assert not asha.enabled
    assert asha.filter.segments == ("NSE_FNO", "NSE_EQ")
    assert asha.filter.sides == (Side.SELL,)


@pytest.mark.parametrize(("name", "variable"), [("asha-devi", "ASHA_DEVI"), ("asha__two", "ASHA__TWO"), ("a_b", "A_B")])
def test_a_follower_is_known_by_any_name_it_may_bear(write_config: WriteConfig, name: str, variable: str) -> None:
    path = write_config(f'[followers.{name}]\nclient_id = "1000000003"\nlimits.unlimited = true')

    loaded = config.load(path, {f"COPYTRADER_FOLLOWERS__{variable}__SIZING__RATIO": "3"})

    assert loaded.followers[name].sizing.ratio == 3


def test_a_variable_that_could_be_of_two_followers_is_refused(write_config: WriteConfig) -> None:
    path = write_config("""
        [followers.asha-k]
        client_id = "1000000003"
        limits.unlimited = true
        [followers.asha_k]
        client_id = "1000000004"
        limits.unlimited = true
    """)

    assert mistakes(path, {"COPYTRADER_FOLLOWERS__ASHA_K__ACCESS_TOKEN": "x"}) == [
        (
            "COPYTRADER_FOLLOWERS__ASHA_K__ACCESS_TOKEN could mean the follower asha-k or asha_k: rename one, or write "
            "the key into the file"
        )
    ]
    assert set(config.load(path, {}).followers) == {"asha", "asha-k", "asha_k"}


def test_a_follower_may_be_given_by_the_environment_alone(write_config: WriteConfig) -> None:
    env = {
        "COPYTRADER_FOLLOWERS__RAVI__CLIENT_ID": "1000000003",
        "COPYTRADER_FOLLOWERS__RAVI__LIMITS__UNLIMITED": "true",
    }

    assert config.load(write_config(), env).followers["ravi"].client_id == "1000000003"


def test_mistakes_in_the_environment_name_the_variable(write_config: WriteConfig) -> None:
    env = {
        "COPYTRADER_COPY__MAX_AGE": "5",
        "COPYTRADER_FOLLOWERS__ASHA__SIZING__RATIO": "lots",
        "COPYTRADER_LEADER_ACCESS_TOKEN": "secret",
        "COPYTRADER_NOWHERE__KEY": "1",
        "COPYTRADER_JOURNL": "elsewhere.db",
        "COPYTRADER_STATEDIR": "elsewhere",
        "COPYTRADER_HOME": "nobody's business",
    }

    assert mistakes(write_config(), env) == [
        "COPYTRADER_JOURNL is no variable of copytrader's: did you mean COPYTRADER_JOURNAL?",
        "COPYTRADER_LEADER_ACCESS_TOKEN is no key of copytrader's: sections and keys are joined by two underscores",
        "COPYTRADER_STATEDIR is no variable of copytrader's: did you mean COPYTRADER_STATE_DIR?",
        "copy.max_age is no key of copytrader's: did you mean max_age_seconds? (COPYTRADER_COPY__MAX_AGE)",
        'followers.asha.sizing.ratio must be a number, was "lots" (COPYTRADER_FOLLOWERS__ASHA__SIZING__RATIO)',
        (
            "nowhere is no key of copytrader's: it may be one of journal, log, dhan, leader, copy, alerts, followers"
            " (COPYTRADER_NOWHERE__KEY)"
        ),
    ]


def test_a_value_is_quoted_in_its_own_letters(write_config: WriteConfig) -> None:
    path = write_config('[followers.asha.sizing]\nmode = "अनुपात"')

    assert any('mode must be "ratio", "capital", "lots" or "risk", was "अनुपात" (' in line for line in mistakes(path))
    path = write_config('[followers.asha.sizing]\nmode = "\u202etar"')
    assert any('was "\\u202etar" (' in line for line in mistakes(path))


def test_where_each_value_came_from_can_be_told(write_config: WriteConfig) -> None:
    path = write_config()

    loaded = config.load(path, {"COPYTRADER_COPY__POLL_SECONDS": "1"}, {"copy.max_age_seconds": "30"})

    assert loaded.copy_rules.max_age_seconds == 30
    assert loaded.origin("copy.max_age_seconds") == "--set"
    assert loaded.origin("copy.poll_seconds") == "COPYTRADER_COPY__POLL_SECONDS"
    assert loaded.origin("leader.client_id") == str(path)
    assert loaded.origin("copy.late_exits") == "default"


# --- mistakes ------------------------------------------------------------------------


def test_each_mistake_is_one_line_with_key_remedy_value_and_file(write_config: WriteConfig) -> None:
    path = write_config("""
        [followers.asha.sizing]
        ratio = -1
    """)

    assert mistakes(path) == ["followers.asha.sizing.ratio must be above 0, was -1 (copytrader.toml)"]


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("sizing.ratio", '"1_000"', "must be a number"),
        ("sizing.ratio", '"\u0660.\u0665"', "must be a number"),
        ("sizing.ratio", "1e-9999", "must be at least 0.0001"),
        ("sizing.capital", "1e999", "must be at most 1000000000000000"),
        ("limits.max_order_value", "1e999", "must be at most 1000000000000000"),
        ("filter.underlyings", '[""]', "must not be empty"),
        ("copy.poll_seconds", "1e-9", "must be 0 or at least 0.05"),
        ("copy.max_age_seconds", "100000000000", "must be at most 10000000000"),
        ("copy.calendar", '""', "must be the name of a file"),
        ("journal", '"/"', "must be the name of a file"),
        ("journal", '"nul\\u0000x.db"', "must be the name of a file"),
        ("log", '""', "must be the name of a file"),
    ],
)
def test_what_cannot_be_meant_is_refused(write_config: WriteConfig, key: str, value: str, line: str) -> None:
    path = write_config()
    section, _, name = (key if key.startswith("copy.") else f"followers.asha.{key}").rpartition(".")
    if "." not in key:
        path.write_text(f"{key} = {value}\n{path.read_text()}")
    elif f"[{section}]" in path.read_text():
        path.write_text(path.read_text().replace(f"[{section}]\n", f"[{section}]\n{name} = {value}\n"))
    else:
        mode = 'mode = "capital"\n' if name == "capital" else ""
        path.write_text(f"{path.read_text()}\n[{section}]\n{mode}{name} = {value}\n")

    (mistake,) = mistakes(path)
    assert line in mistake


def test_a_file_may_begin_with_a_mark_of_the_byte_order(write_config: WriteConfig) -> None:
    path = write_config()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    assert config.load(path, {}).leader.client_id


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "[" + ".".join("a" * 3000) + "]"])
def test_what_is_nested_too_deeply_is_one_line(write_config: WriteConfig, text: str) -> None:
    (mistake,) = mistakes(write_config(text=text))

    assert "nested too deeply" in mistake or "not valid TOML" in mistake


def test_all_mistakes_are_named_at_once(write_config: WriteConfig) -> None:
    text = """
        journal = 5
        [leader]
        client_id = 1000000001
        [copy]
        max_age_seconds = 0
        poll_seconds = true
        market_hours = "never"
        [followers.asha]
        client_id = "../positions"
        source_address = "home"
        enabled = "perhaps"
        [followers.asha.limits]
        max_order_lots = 2.5
        [followers.asha.filter]
        segments = ["NSE_FNO", "NYSE"]
    """

    assert mistakes(write_config(text="\n" + text)) == [
        "journal must be text in quotes, was 5 (copytrader.toml)",
        "leader.client_id must be text in quotes, was 1000000001 (copytrader.toml)",
        "copy.max_age_seconds must be at least 1, was 0 (copytrader.toml)",
        "copy.poll_seconds must be a number, was true (copytrader.toml)",
        'copy.market_hours must be "enforce" or "off", was "never" (copytrader.toml)',
        (
            "followers.asha.client_id must be the account's Dhan client id, letters and digits only,"
            ' was "../positions" (copytrader.toml)'
        ),
        'followers.asha.source_address must be an IP address of this machine, was "home" (copytrader.toml)',
        'followers.asha.enabled must be true or false, was "perhaps" (copytrader.toml)',
        "followers.asha.limits.max_order_lots must be a whole number, was 2.5 (copytrader.toml)",
        (
            "followers.asha.filter.segments.1 must be one of NSE_EQ, NSE_FNO, NSE_CURRENCY,"
            ' BSE_EQ, BSE_FNO, BSE_CURRENCY, MCX_COMM, was "NYSE" (copytrader.toml)'
        ),
    ]


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("", "limits is missing: set limits, or `unlimited = true` to copy without any"),
        ("limits = {}", "limits must hold at least one limit, or `unlimited = true` to copy without any"),
        (
            "limits = { unlimited = true, max_order_lots = 1 }",
            "limits must hold either limits or `unlimited = true`, not both",
        ),
    ],
)
def test_a_follower_has_limits_or_says_that_it_has_none(write_config: WriteConfig, section: str, problem: str) -> None:
    assert mistakes(write_config(text=follower(section))) == [f"followers.asha.{problem} (copytrader.toml)"]


@pytest.mark.parametrize(
    ("sizing", "problem"),
    [
        ('mode = "lots"', 'sizing needs lots, the lots per entry, with mode = "lots"'),
        ('mode = "risk"', 'sizing needs risk_percent, of the capital per entry, with mode = "risk"'),
        ('mode = "double"', 'sizing.mode must be "ratio", "capital", "lots" or "risk", was "double"'),
        ("mode = 1.5\nlots = 1", 'sizing.mode must be "ratio", "capital", "lots" or "risk", was 1.5'),
        ("ratio = inf", "sizing.ratio must be a number, was Infinity"),
        ("ratio = 1001", "sizing.ratio must be at most 1000, was 1001"),
        ("ratio = true", "sizing.ratio must be a number, was true"),
    ],
)
def test_a_sizing_that_leaves_the_size_open_is_refused(write_config: WriteConfig, sizing: str, problem: str) -> None:
    path = write_config(f"[followers.asha.sizing]\n{sizing}")

    assert mistakes(path) == [f"followers.asha.{problem} (copytrader.toml)"]


@pytest.mark.parametrize(
    ("sizing", "idle"),
    [
        ("lots = 1", ["lots has no effect with the default mode, ratio"]),
        ("risk_percent = 1", ["risk_percent has no effect with the default mode, ratio"]),
        (
            'mode = "ratio"\nlots = 2\nrisk_percent = 1\ncapital = 500000',
            [f'{key} has no effect with mode = "ratio"' for key in ("capital", "lots", "risk_percent")],
        ),
        ('mode = "lots"\nlots = 1\nratio = 0.5', []),
        ('mode = "capital"\nratio = 0.5\ncapital = 500000', []),
        ('mode = "capital"\nadverse_move_percent = 5', []),
        ('mode = "risk"\nrisk_percent = 1\nadverse_move_percent = 5\ncapital = 500000', []),
        ('mode = "risk"\nrisk_percent = 1\nratio = 0.5', []),
    ],
)
def test_a_key_at_which_the_mode_of_sizing_never_looks_is_refused(
    write_config: WriteConfig, sizing: str, idle: list[str]
) -> None:
    path = write_config(f"[followers.asha.sizing]\n{sizing}")

    assert (mistakes(path) if idle else []) == [
        f"followers.asha.sizing.{each}: leave it out, or choose the mode that needs it (copytrader.toml)"
        for each in idle
    ]
    if not idle:
        config.load(path, {})


def test_a_key_without_effect_is_named_with_the_variable_that_gives_it(write_config: WriteConfig) -> None:
    assert mistakes(write_config(), {"COPYTRADER_FOLLOWERS__ASHA__SIZING__LOTS": "2"}) == [
        (
            "followers.asha.sizing.lots has no effect with the default mode, ratio: leave it out, or choose the mode "
            "that needs it (COPYTRADER_FOLLOWERS__ASHA__SIZING__LOTS)"
        )
    ]


def test_no_two_accounts_share_a_client_id(write_config: WriteConfig) -> None:
    path = write_config("""
        [followers.ravi]
        client_id = "1000000001"
        limits.unlimited = true
        [followers.mira]
        client_id = "1000000002"
        limits.unlimited = true
    """)

    assert mistakes(path) == [
        'followers.ravi.client_id must differ from leader.client_id, was "1000000001" (copytrader.toml)',
        'followers.mira.client_id must differ from followers.asha.client_id, was "1000000002" (copytrader.toml)',
    ]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("leader", "must have another name: `leader` is the leader's"),
        ("Asha", "must be named with a-z, 0-9, _ and - only, at most 32 characters"),
        ("a" * 33, "must be named with a-z, 0-9, _ and - only, at most 32 characters"),
    ],
)
def test_a_followers_name_is_plain_and_its_own(write_config: WriteConfig, name: str, problem: str) -> None:
    path = write_config(f'[followers.{name}]\nclient_id = "1000000003"\nlimits.unlimited = true')

    assert mistakes(path) == [f"followers.{name} {problem} (copytrader.toml)"]


@pytest.mark.parametrize(
    ("key", "url", "problem"),
    [
        ("api_url", "http://example.com", "must begin with https:// unless it leads to this machine"),
        ("api_url", "http://127.0.0.1.example.com", "must begin with https:// unless it leads to this machine"),
        ("api_url", "ftp://localhost", "must begin with https://"),
        ("api_url", "https://", "must begin with https://"),
        ("api_url", "https://x:99999", "must be an address such as https://example.com"),
        ("order_update_url", "ws://example.com", "must begin with wss:// unless it leads to this machine"),
        ("order_update_url", "https://example.com", "must begin with wss://"),
    ],
)
def test_a_token_is_never_sent_in_the_clear_to_another_machine(
    write_config: WriteConfig, key: str, url: str, problem: str
) -> None:
    path = write_config(f'[dhan]\n{key} = "{url}"')

    assert mistakes(path) == [f'dhan.{key} {problem}, was "{url}" (copytrader.toml)']


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_plain_addresses_of_this_machine_are_fine(write_config: WriteConfig, host: str) -> None:
    path = write_config(f'[dhan]\napi_url = "http://{host}:8080/v2/"\norder_update_url = "ws://{host}:8081"')

    loaded = config.load(path, {})

    assert loaded.dhan.api_url == f"http://{host}:8080/v2"
    assert loaded.dhan.is_simulated
    loaded.check_for_follow()


def test_following_the_simulators_orders_with_dhans_stream_is_refused(write_config: WriteConfig) -> None:
    loaded = config.load(write_config('[dhan]\napi_url = "http://127.0.0.1:8080/v2"'), {})

    with pytest.raises(ConfigError, match="must both lead to this machine, or both to Dhan"):
        loaded.check_for_follow()


def test_following_needs_somebody_enabled_and_nothing_else_does(write_config: WriteConfig) -> None:
    loaded = config.load(write_config(text='[leader]\nclient_id = "1000000001"\n'), {})

    assert loaded.desk(Calendar()).followers == ()
    with pytest.raises(ConfigError, match="followers has nobody enabled"):
        loaded.check_for_follow()


def test_a_mistake_of_syntax_names_line_and_column(write_config: WriteConfig) -> None:
    (line,) = mistakes(write_config(text='[leader]\nclient_id = "1\n'))

    assert re.fullmatch(r"copytrader\.toml is not valid TOML: .* \(at line 2, column 15\)", line)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "copytrader.toml"
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)

    assert mistakes(path) == ["copytrader.toml is not valid TOML: byte 1 is not UTF-8"]


def test_a_value_where_a_section_belongs_is_refused(write_config: WriteConfig) -> None:
    path = write_config(text='leader = 5\nfollowers = "asha"\n')

    assert mistakes(path, {"COPYTRADER_LEADER__CLIENT_ID": "1"}) == [
        "leader must be a section, was 5 (copytrader.toml)",
        'followers must be a section, was "asha" (copytrader.toml)',
    ]


# --- secrets -------------------------------------------------------------------------


def test_no_secret_is_seen_in_a_message_a_traceback_or_a_repr(write_config: WriteConfig) -> None:
    broken = FULL.replace('"leader-token"', "['leader-token']").replace("access_token   =", "acess_token   =")
    broken = broken.replace('"http://user:', '"ftp://user:').replace('["json://', '"json://').replace('/"]', '/", 5]')
    broken = broken.replace('"json://', '["json://')
    env = {"COPYTRADER_LEADER__TOKEN": "env-token"}
    with pytest.raises(ConfigError) as caught:
        config.load(write_config(text=broken), env)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)

    assert len(caught.value.lines) == 5
    shown += repr(config.load(write_config(text=FULL), {}))
    for secret in ("leader-token", "asha-token", "proxy-password", "alert-secret", "env-token"):
        assert secret not in shown


def test_the_digest_follows_the_rules_and_not_the_secrets(write_config: WriteConfig) -> None:
    def digest(text: str) -> str:
        return config.load(write_config(text=text), {}).digest()

    assert digest(FULL) == digest(FULL.replace("leader-token", "another").replace("proxy-password", "x"))
    assert digest(FULL) != digest(FULL.replace("ratio = 0.5", "ratio = 0.6"))
    assert digest(FULL) != digest(FULL.replace("max_order_lots        = 20", "max_order_lots = 21"))
    assert digest(FULL) != digest(FULL.replace("enabled = false", "enabled = true"))
    assert len(digest(FULL)) == 64


# --- stored tokens -------------------------------------------------------------------

EXPIRES = datetime(2026, 11, 24, 9, 0, tzinfo=UTC) + timedelta(hours=5)


def loaded_without_token(write_config: WriteConfig) -> Config:
    return config.load(write_config(text='[leader]\nclient_id = "1000000001"\n'), {})


def test_a_stored_token_is_used_where_none_is_configured(write_config: WriteConfig) -> None:
    loaded = loaded_without_token(write_config)
    assert loaded.token("leader") is None

    tokens.store_token("1000000001", SecretStr("from-login"), EXPIRES)

    assert loaded.token("leader") == SecretStr("from-login")
    assert tokens.stored_token("1000000001") == tokens.StoredToken(SecretStr("from-login"), EXPIRES)
    configured = dataclasses.replace(loaded, leader=config.load(write_config(), {}).leader)
    assert configured.token("leader") == SecretStr("leader-token")


def test_a_stored_token_is_its_owners_alone_whatever_the_umask() -> None:
    before = os.umask(0)
    try:
        path = tokens.store_token("1000000001", SecretStr("first"), EXPIRES)
        tokens.store_token("1000000001", SecretStr("second"), EXPIRES)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"access_token": "secret", "expires_at": "2026-11-24T09:00:00"}'])
def test_a_damaged_stored_token_is_refused_without_showing_it(content: str) -> None:
    path = tokens.store_token("1000000001", SecretStr("secret"), EXPIRES)
    path.write_text(content)

    with pytest.raises(Failure, match="is damaged: run `copytrader login`") as caught:
        tokens.stored_token("1000000001")
    assert caught.value.code is ExitCode.TOKEN
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_stored_token_that_others_can_read_or_that_is_a_link_is_refused(tmp_path: Path) -> None:
    path = tokens.store_token("1000000001", SecretStr("secret"), EXPIRES)
    path.chmod(0o640)
    with pytest.raises(Failure, match="run chmod 600"):
        tokens.stored_token("1000000001")

    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failure, match="is a symbolic link"):
        tokens.stored_token("1000000001")


@pytest.mark.parametrize("client_id", ["", "../x", "a/b", "1\n"])
def test_a_client_id_never_becomes_a_path(client_id: str) -> None:
    with pytest.raises(ValueError, match="letters and digits"):
        tokens.store_token(client_id, SecretStr("secret"), EXPIRES)

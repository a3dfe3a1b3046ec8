"""Ready-made worlds: a leader, some followers and a handful of instruments, dated today.

Every id, name and price is invented.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal

from copytrader.simulator.exchange import Exchange, Settings
from copytrader.simulator.model import IST, Account, Instrument

LEADER_ID = "1000000001"
_OPTION_STRIKES = (25000, 25500, 26000)
_FREEZE = {75: 1801, 65: 1756}


def now() -> datetime:
    return datetime.now(IST)


def token_of(client_id: str) -> str:
    """The token that an account of a ready-made world begins with."""
    return f"simulated-token-{client_id}"


def client_ids(followers: int) -> list[str]:
    """The leader's id and then the followers'."""
    return [str(int(LEADER_ID) + number) for number in range(followers + 1)]


def options_desk(clock: Callable[[], datetime] = now, followers: int = 2, settings: Settings | None = None) -> Exchange:
    exchange = Exchange(clock, settings)
    furnish(exchange, "options-desk", followers)
    return exchange


def furnish(exchange: Exchange, scenario: str, followers: int = 2) -> None:
    """Put a scenario's accounts and instruments into an exchange."""
    check(scenario, followers)
    if scenario == "empty":
        return
    for number, client_id in enumerate(client_ids(followers)):
        name = "LEADER" if number == 0 else f"FOLLOWER {number}"
        exchange.add_account(Account(client_id, token_of(client_id), name=name))
    today = exchange.clock().astimezone(IST).date()
    for instrument, price in instruments(today):
        exchange.add_instrument(instrument, price)


SCENARIOS = ("empty", "options-desk")


def check(scenario: str, followers: int) -> None:
    """Raise ValueError for what cannot be furnished."""
    if scenario not in SCENARIOS:
        raise ValueError(f"unknown scenario {scenario!r}: choose from {', '.join(SCENARIOS)}")
    client_ids(followers)


def instruments(today: date) -> list[tuple[Instrument, Decimal]]:
    """NIFTY options of two expiries (lots of 75 and of 65), a future and a share, with their last prices."""
    near, far = today + timedelta(days=7), today + timedelta(days=35)
    rows = [_option(40001 + number, near, strike, 75) for number, strike in enumerate(_option_keys())]
    rows += [_option(40101 + number, far, strike, 65) for number, strike in enumerate(_option_keys())]
    return [*rows, _future(far), _share()]


def _option_keys() -> list[tuple[int, str]]:
    return [(strike, kind) for strike in _OPTION_STRIKES for kind in ("CE", "PE")]


def _option(number: int, expiry: date, key: tuple[int, str], lot: int) -> tuple[Instrument, Decimal]:
    strike, kind = key
    instrument = Instrument(
        "NSE_FNO",
        str(number),
        f"NIFTY-{expiry:%b%Y}-{strike}-{kind}",
        lot,
        Decimal("0.05"),
        _FREEZE[lot],
        Decimal("0.05"),
        Decimal(1000),
        "NIFTY",
        "26000",
        "OPTIDX",
        expiry,
        Decimal(strike),
        kind,
        display_name=f"NIFTY {expiry:%d %b} {strike} {'CALL' if kind == 'CE' else 'PUT'}".upper(),
    )
    return instrument, Decimal(100 + number % 100 * 10)


def _future(expiry: date) -> tuple[Instrument, Decimal]:
    instrument = Instrument(
        "NSE_FNO",
        "40201",
        f"NIFTY-{expiry:%b%Y}-FUT",
        65,
        Decimal("0.10"),
        1756,
        Decimal(22000),
        Decimal(29000),
        "NIFTY",
        "26000",
        "FUTIDX",
        expiry,
        None,
        "XX",
        display_name=f"NIFTY {expiry:%b} FUT".upper(),
    )
    return instrument, Decimal("25500.0")


def _share() -> tuple[Instrument, Decimal]:
    instrument = Instrument(
        "NSE_EQ",
        "50001",
        "RELIANCE",
        1,
        Decimal("0.10"),
        0,
        Decimal("1200.0"),
        Decimal("1600.0"),
        "RELIANCE",
        instrument_type="EQUITY",
        display_name="Reliance Industries",
        isin="INE000X00001",
        series="EQ",
    )
    return instrument, Decimal("1400.0")

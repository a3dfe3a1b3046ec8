"""Every key of `copytrader.toml`: its type, its default and what it may be.

One class per section.  A validator's message completes the sentence that begins with
the key's name; `mistakes` adds the value and where it came from.
"""

from __future__ import annotations

import ipaddress
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from copytrader.core.facts import Level
from copytrader.core.model import LEADER, LateExits, Product, Side, SizingMode
from copytrader.tokens import CLIENT_ID

SEGMENTS = ("NSE_EQ", "NSE_FNO", "NSE_CURRENCY", "BSE_EQ", "BSE_FNO", "BSE_CURRENCY", "MCX_COMM")
PRODUCTS = (Product.CNC, Product.INTRADAY, Product.MARGIN, Product.MTF)
PLAIN_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")
"""A number in text, as from the environment: Python itself takes `1_000` and the digits of other scripts, too."""
LEAST_PAUSE = 0.05
_NOTIFIER = re.compile(r"[a-z0-9+.-]+://", re.IGNORECASE)
_SEVERAL = re.compile(r"[\s,;][a-z0-9+.-]+://", re.IGNORECASE)
LEAST = Decimal("0.0001")
NAME = re.compile(r"[a-z0-9_-]{1,32}")
TOKEN = re.compile(r"[!-~]{1,4096}", re.ASCII)
"""What can be sent as a header; a real one is a JWT."""


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic reports a ValueError, it does not catch TypeError
    if isinstance(value, str) and not PLAIN_NUMBER.fullmatch(value.strip()):
        raise ValueError("must be a number")
    return value


def _pause(value: float) -> float:
    if 0 < value < LEAST_PAUSE:
        raise ValueError(f"must be 0 or at least {LEAST_PAUSE:g}")
    return value


def _not_tiny(value: Decimal) -> Decimal:
    if value < LEAST:
        raise ValueError(f"must be at least {LEAST}")
    return value


def _file(value: object) -> object:
    if isinstance(value, str) and (not value.strip() or "\0" in value or value.endswith("/")):
        raise ValueError("must be the name of a file")
    return value


def _named(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return value


def _items(value: object) -> object:
    """Let a list come from the environment as JSON or separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError("must be a list") from None
    return [item.strip() for item in value.split(",") if item.strip()]


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


def _one_of(*allowed: str) -> BeforeValidator:
    def check(value: object) -> object:
        upper = _upper(value)
        if upper not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return upper

    return BeforeValidator(check)


def _client_id(value: str) -> str:
    if not CLIENT_ID.fullmatch(value):
        raise ValueError("must be the account's Dhan client id, letters and digits only")
    return value


def _name(value: str) -> str:
    if value == LEADER:
        raise ValueError("must have another name: `leader` is the leader's")
    if not NAME.fullmatch(value):
        raise ValueError("must be named with a-z, 0-9, _ and - only, at most 32 characters")
    return value


def _token(value: object) -> object:
    if isinstance(value, str) and value and not TOKEN.fullmatch(value):
        raise ValueError("must be one word of plain characters, as Dhan gives it")
    return None if value == "" else value


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading the port is what checks it
    except ValueError:
        raise ValueError("must be an address such as https://example.com") from None
    return parts


def is_loopback(url: str) -> bool:
    """Say whether an address can only lead to this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(*schemes: str) -> AfterValidator:
    """Allow a scheme that encrypts; its plain sister, the second, to this machine only."""
    secure, plain = schemes

    def check(value: str) -> str:
        parts = _split(value)
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError(f"must begin with {secure}://")
        if parts.username or parts.password or parts.fragment:
            raise ValueError("must not hold a user name, a password or a #fragment")
        if parts.scheme == plain and not is_loopback(value):
            raise ValueError(f"must begin with {secure}:// unless it leads to this machine")
        return value.rstrip("/")

    return AfterValidator(check)


def _proxy(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text:
        parts = _split(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be http://[user:password@]host:port")
    return value


def _notifier(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not _NOTIFIER.match(text):
        raise ValueError("must be an address with its kind, such as tgram://token/chat")
    if _SEVERAL.search(text):
        raise ValueError("must be one address: write each as an entry of its own")
    return value


def _address(value: str) -> str:
    if value:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError("must be an IP address of this machine") from None
    return value


Whole = Annotated[int, BeforeValidator(_number)]
Number = Annotated[Decimal, BeforeValidator(_number)]
Percent = Annotated[Number, Field(gt=0, le=100), AfterValidator(_not_tiny)]
Rupees = Annotated[Number, Field(gt=0, le=10**15)]
File = Annotated[Path, BeforeValidator(_file)]
Underlying = Annotated[str, BeforeValidator(_upper), AfterValidator(_named)]
Count = Annotated[Whole, Field(ge=1)]
HttpUrl = Annotated[str, _url("https", "http")]
SocketUrl = Annotated[str, _url("wss", "ws")]
Items = BeforeValidator(_items)


class Section(BaseModel):
    """A table of the file: closed, immutable, and never quoted in an error of pydantic's own."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DhanConfig(Section):
    api_url: HttpUrl = "https://api.dhan.co/v2"
    auth_url: HttpUrl = "https://auth.dhan.co"
    order_update_url: SocketUrl = "wss://api-order-update.dhan.co"
    instruments_url: HttpUrl = "https://images.dhan.co/api-data/api-scrip-master-detailed.csv"

    @property
    def is_simulated(self) -> bool:
        """Orders go to this machine, so nothing of it may mix with what Dhan itself was told."""
        return is_loopback(self.api_url)


class AccountConfig(Section):
    client_id: Annotated[str, AfterValidator(_client_id)]
    access_token: Annotated[SecretStr | None, BeforeValidator(_token)] = None
    proxy: Annotated[SecretStr, AfterValidator(_proxy)] = SecretStr("")
    source_address: Annotated[str, AfterValidator(_address)] = ""


class CopyConfig(Section):
    max_age_seconds: Annotated[Whole, Field(ge=1, le=10**10)] = 10
    poll_seconds: Annotated[float, BeforeValidator(_number), Field(ge=0, le=3_600), AfterValidator(_pause)] = 5.0
    market_hours: Literal["enforce", "off"] = "enforce"
    late_exits: LateExits = LateExits.MARKET
    stop_limit_percent: Annotated[Number, Field(gt=0, lt=100)] = Decimal(5)
    market_wait_seconds: Annotated[Whole, Field(ge=1, le=3_600)] = 5
    reprice_attempts: Annotated[Whole, Field(ge=0, le=20)] = 3
    calendar: File | None = None


KEYS_OF_MODE: dict[str, frozenset[str]] = {
    SizingMode.RATIO: frozenset({"ratio"}),
    SizingMode.CAPITAL: frozenset({"ratio", "capital"}),
    SizingMode.LOTS: frozenset({"lots"}),
    SizingMode.RISK: frozenset({"risk_percent", "adverse_move_percent", "capital"}),
}
"""The keys beside `mode` that each mode of sizing looks at."""


class SizingConfig(Section):
    mode: SizingMode = SizingMode.RATIO
    ratio: Annotated[Number, Field(gt=0, le=1_000), AfterValidator(_not_tiny)] = Decimal(1)
    lots: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    risk_percent: Percent | None = None
    adverse_move_percent: Percent = Decimal(5)
    capital: Rupees | None = None

    @model_validator(mode="after")
    def _mode_has_its_key(self) -> Self:
        if self.mode is SizingMode.LOTS and self.lots is None:
            raise ValueError('needs lots, the lots per entry, with mode = "lots"')
        if self.mode is SizingMode.RISK and self.risk_percent is None:
            raise ValueError('needs risk_percent, of the capital per entry, with mode = "risk"')
        return self


class LimitsConfig(Section):
    unlimited: bool = False
    max_order_value: Rupees | None = None
    max_order_lots: Count | None = None
    max_position_lots: Count | None = None
    max_open_positions: Count | None = None
    max_daily_loss: Rupees | None = None
    max_orders_per_minute: Count | None = None

    @model_validator(mode="after")
    def _limited_or_not(self) -> Self:
        limited = any(getattr(self, key) is not None for key in type(self).model_fields if key != "unlimited")
        if self.unlimited and limited:
            raise ValueError("must hold either limits or `unlimited = true`, not both")
        if not self.unlimited and not limited:
            raise ValueError("must hold at least one limit, or `unlimited = true` to copy without any")
        return self


class FilterConfig(Section):
    segments: Annotated[tuple[Annotated[str, _one_of(*SEGMENTS)], ...], Items] = ()
    products: Annotated[tuple[Annotated[Product, _one_of(*PRODUCTS)], ...], Items] = ()
    underlyings: Annotated[tuple[Underlying, ...], Items] = ()
    exclude_underlyings: Annotated[tuple[Underlying, ...], Items] = ()
    sides: Annotated[tuple[Annotated[Side, _one_of(*Side)], ...], Items] = ()


class FollowerConfig(AccountConfig):
    enabled: bool = True
    sizing: SizingConfig = SizingConfig()
    limits: LimitsConfig
    filter: FilterConfig = FilterConfig()


class AlertsConfig(Section):
    urls: Annotated[tuple[Annotated[SecretStr, AfterValidator(_notifier)], ...], Items] = ()
    level: Annotated[Level, BeforeValidator(_upper)] = Level.WARNING


class FileConfig(Section):
    """The whole file.  `copy` is spelt `copy_rules` here because a pydantic model has a method of that name."""

    journal: File = Path("copytrader.db")
    log: File | None = None
    dhan: DhanConfig = DhanConfig()
    leader: AccountConfig
    copy_rules: CopyConfig = Field(default=CopyConfig(), alias="copy")
    alerts: AlertsConfig = AlertsConfig()
    followers: dict[Annotated[str, AfterValidator(_name)], FollowerConfig] = {}


SECRET_KEYS = frozenset({"access_token", "proxy", "urls"})
"""Keys whose values are never shown, not even when they are wrong."""


def keys_at(path: tuple[str | int, ...]) -> tuple[str, ...]:
    """Return the keys that the section at this path may hold; nothing where there is no such section."""
    section: Any = FileConfig
    for part in path:
        if section is dict:
            section = FollowerConfig
            continue
        by_name = {field.alias or name: field.annotation for name, field in section.model_fields.items()}
        section = by_name.get(str(part))
        if getattr(section, "__origin__", None) is dict:
            section = dict
        elif not (isinstance(section, type) and issubclass(section, Section)):
            return ()
    return () if section is dict else tuple(field.alias or name for name, field in section.model_fields.items())

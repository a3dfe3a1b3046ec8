"""The instrument master as the broker publishes it: a detailed and a compact CSV file.

Tick sizes of tradable rows are in paise, lots have a decimal, and every line of the
detailed file ends with a comma.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

from copytrader.simulator import wire
from copytrader.simulator.model import Instrument

if TYPE_CHECKING:
    from copytrader.simulator.exchange import Exchange

DETAILED = (
    "EXCH_ID,SEGMENT,SECURITY_ID,ISIN,INSTRUMENT,UNDERLYING_SECURITY_ID,UNDERLYING_SYMBOL,SYMBOL_NAME,DISPLAY_NAME,"
    "INSTRUMENT_TYPE,SERIES,LOT_SIZE,SM_EXPIRY_DATE,STRIKE_PRICE,OPTION_TYPE,TICK_SIZE,EXPIRY_FLAG,BRACKET_FLAG,"
    "COVER_FLAG,ASM_GSM_FLAG,ASM_GSM_CATEGORY,BUY_SELL_INDICATOR,BUY_CO_MIN_MARGIN_PER,BUY_CO_SL_RANGE_MAX_PERC,"
    "BUY_CO_SL_RANGE_MIN_PERC,BUY_BO_MIN_MARGIN_PER,BUY_BO_PROFIT_RANGE_MAX_PERC,BUY_BO_PROFIT_RANGE_MIN_PERC,"
    "MTF_LEVERAGE,SM_UPPER_LIMIT,SM_LOWER_LIMIT,SM_FREEZE_QTY,"
)
COMPACT = (
    "SEM_EXM_EXCH_ID,SEM_SEGMENT,SEM_SMST_SECURITY_ID,SEM_INSTRUMENT_NAME,SEM_EXPIRY_CODE,SEM_TRADING_SYMBOL,"
    "SEM_LOT_UNITS,SEM_CUSTOM_SYMBOL,SEM_EXPIRY_DATE,SEM_STRIKE_PRICE,SEM_OPTION_TYPE,SEM_TICK_SIZE,SEM_EXPIRY_FLAG,"
    "SEM_EXCH_INSTRUMENT_TYPE,SEM_SERIES,SM_SYMBOL_NAME"
)
_NO_RANGES = ["0"] * 6


def files(exchange: Exchange) -> dict[str, Callable[[], str]]:
    instruments = exchange.instruments.values()
    return {
        "api-scrip-master-detailed.csv": lambda: _file(DETAILED, map(_detailed, instruments)),
        "api-scrip-master.csv": lambda: _file(COMPACT, map(_compact, instruments)),
    }


def _file(header: str, rows: Iterable[list[str]]) -> str:
    text = io.StringIO()
    text.write(header + "\n")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _detailed(instrument: Instrument) -> list[str]:
    exchange, segment = wire.SEGMENTS[instrument.exchange_segment]
    return [
        exchange,
        segment,
        instrument.security_id,
        instrument.isin,
        instrument.instrument_type,
        instrument.underlying_security_id,
        instrument.underlying,
        instrument.symbol,
        instrument.display_name or instrument.symbol,
        _kind(instrument),
        "NA" if instrument.is_derivative else instrument.series,
        f"{instrument.lot_size}.0",
        instrument.expiry.isoformat() if instrument.expiry else "",
        _strike(instrument, "0.00001"),
        _option_type(instrument),
        _tick(instrument, "0.0001"),
        "M" if instrument.is_derivative else "NA",
        *["N", "N", "N", "NA", "A"],
        *_NO_RANGES,
        "0",
        f"{instrument.upper_limit:.4f}",
        f"{instrument.lower_limit:.4f}",
        str(instrument.freeze_quantity or -1),
        "",
    ]


def _compact(instrument: Instrument) -> list[str]:
    exchange, segment = wire.SEGMENTS[instrument.exchange_segment]
    return [
        exchange,
        segment,
        instrument.security_id,
        instrument.instrument_type,
        "0",
        instrument.symbol,
        f"{instrument.lot_size}.0",
        instrument.display_name or instrument.symbol,
        f"{instrument.expiry.isoformat()} 14:30:00" if instrument.expiry else "",
        _strike(instrument, "0.00001"),
        _option_type(instrument),
        _tick(instrument, "0.0001"),
        "M" if instrument.is_derivative else "NA",
        _kind(instrument),
        "" if instrument.is_derivative else instrument.series,
        "" if instrument.is_derivative else instrument.symbol,
    ]


def _kind(instrument: Instrument) -> str:
    return "OP" if instrument.is_option else "FUT" if instrument.is_derivative else "ES"


def _option_type(instrument: Instrument) -> str:
    return (instrument.option_type or "XX") if instrument.is_derivative else ""


def _strike(instrument: Instrument, digits: str) -> str:
    if not instrument.is_derivative:
        return ""
    strike = instrument.strike if instrument.strike is not None else Decimal("-0.01")
    return str(strike.quantize(Decimal(digits)))


def _tick(instrument: Instrument, digits: str) -> str:
    return str((instrument.tick_size * 100).quantize(Decimal(digits)))

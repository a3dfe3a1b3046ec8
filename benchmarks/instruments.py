"""How long 250,000 rows of the instrument master take to read in, beside a loop that only splits them.

    python -m benchmarks.instruments

The second reading finds nothing changed, which is what happens every morning.
"""

from __future__ import annotations

import csv
import resource
import tempfile
import time
from contextlib import closing
from datetime import date
from pathlib import Path

from copytrader.dhan.master import InstrumentStore

ROWS, SECONDS, MEGABYTES = 250_000, 4.0, 250
HEADER = (
    "EXCH_ID,SEGMENT,SECURITY_ID,ISIN,INSTRUMENT,UNDERLYING_SECURITY_ID,UNDERLYING_SYMBOL,SYMBOL_NAME,DISPLAY_NAME,"
    "INSTRUMENT_TYPE,SERIES,LOT_SIZE,SM_EXPIRY_DATE,STRIKE_PRICE,OPTION_TYPE,TICK_SIZE,EXPIRY_FLAG,"
    "SM_UPPER_LIMIT,SM_LOWER_LIMIT,SM_FREEZE_QTY,"
)


def written(path: Path) -> Path:
    with path.open("w") as file:
        print(HEADER, file=file)
        for number in range(ROWS):
            upper = 100 + number % 90_000 / 20
            print(
                f"NSE,D,{number},NA,OPTIDX,26000,NIFTY,NIFTY-Sep2026-{number}-CE,NIFTY 29 SEP {number} CALL,OP,NA,"
                f"65.0,2026-09-29,{number}.00000,CE,5.0000,M,{upper:.4f},0.0500,1756,",
                file=file,
            )
    return path


def memory() -> float:
    """Return the most megabytes that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        source, before, times = written(Path(folder) / "master.csv"), memory(), []
        began = time.perf_counter()
        with source.open(newline="") as file:
            split = sum(1 for _ in csv.reader(file))
        bare = time.perf_counter() - began
        with closing(InstrumentStore(Path(folder) / "instruments.db")) as store:
            for _ in range(2):
                began = time.perf_counter()
                assert store.load(source, date(2026, 9, 7)).rows == split - 1 == ROWS
                times.append(time.perf_counter() - began)
    first, again = times
    print(f"{ROWS:,} rows      first {first:.2f} s, unchanged {again:.2f} s (target {SECONDS:g} s)")
    print(f"only splitting    {bare:.2f} s, ratio {first / bare:.1f}")
    print(f"memory            {memory():.0f} MB, {memory() - before:.0f} MB of it for this (target {MEGABYTES} MB)")
    return 0 if max(times) <= SECONDS and memory() <= MEGABYTES else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""How long `copytrader --help` takes, beside an interpreter that does nothing.

python -m benchmarks.startup
"""

from __future__ import annotations

import subprocess
import sys
import time


def milliseconds(*command: str, times: int = 15) -> float:
    """The quickest of several runs: what the program itself takes."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        taken.append((time.perf_counter() - began) * 1000)
    return min(taken)


if __name__ == "__main__":
    bare = milliseconds("-c", "pass")
    shown = milliseconds("-m", "copytrader", "--help")
    print(f"copytrader --help {shown:.0f} ms, the bare interpreter {bare:.0f} ms")

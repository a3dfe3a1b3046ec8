"""Break each safety rule of the core in a copy of it, and show which test notices: `python -m tests.core.mutate [WORD]`.

Rules whose name holds WORD are tried, all without it.  Exits 1 if a broken rule goes unnoticed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.core.mutations import MUTATIONS, Mutation

_ROOT = Path(__file__).parents[2]
_STAGES = (
    "test_engine.py test_answers.py test_delivered.py test_unreachable.py test_late_modification.py test_days.py",
    "test_given_up.py test_through_zero_seen_late.py test_carry.py test_after_market.py test_left_overnight.py test_closed_twice.py",
    "test_budget.py test_loss_reached.py test_limits_in_a_burst.py test_entries_that_wait_for_exits.py test_scaling_out.py test_reversal.py test_exits_sent_late.py test_entries_that_close.py",
    "test_daily_loss.py test_limits.py test_sizing.py test_exit_beside_hand_trades.py test_resting_exits.py test_market_orders_refused.py test_opening.py test_left_late.py",
    "test_positions_ahead.py test_entry_filled_unheard.py test_capital.py",
    "test_heard_together.py test_restored_backup.py",
    "test_sessions.py",
    "test_messages.py",
)


def main() -> int:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    with TemporaryDirectory() as place:
        copy = _copied(Path(place))
        caught = [_tried(copy, mutation) for mutation in MUTATIONS if word in mutation.rule]
    print(f"{sum(caught)} of {len(caught)} broken rules were noticed")
    return 0 if all(caught) else 1


def _copied(place: Path) -> Path:
    for part in ("copytrader", "tests/core"):
        shutil.copytree(_ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_ROOT / "tests/__init__.py", place / "tests")
    shutil.copy(_ROOT / "pyproject.toml", place)
    return place


def _tried(copy: Path, mutation: Mutation) -> bool:
    file = copy / "copytrader" / "core" / mutation.file
    text = file.read_text()
    assert text.count(mutation.original) == 1, f"{mutation.rule}: not found once in {mutation.file}"
    file.write_text(text.replace(mutation.original, mutation.broken))
    try:
        witness = next(filter(None, (_noticed(copy, stage) for stage in _STAGES)), "")
    finally:
        file.write_text(text)
    print(
        f"{'ok  ' if witness else 'MISS'} {mutation.rule} ({mutation.file}): {witness or 'nothing noticed'}", flush=True
    )
    return bool(witness)


def _noticed(copy: Path, stage: str) -> str:
    """Return the name of the first test that fails."""
    tests = [f"tests/core/{name}" for name in stage.split() if (copy / "tests/core" / name).exists()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests]
    surroundings = {**os.environ, "COPYTRADER_SESSIONS": "400", "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=copy, env=surroundings, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split("::", 1)[-1].split(" - ")[0] if failed else done.stdout[-200:] + done.stderr[-200:]


if __name__ == "__main__":
    raise SystemExit(main())

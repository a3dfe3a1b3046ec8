"""A question before something that cannot be taken back, and what each answer means."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
from copytrader.cli.ask import confirm
from copytrader.failure import Failure
try:
    confirm("Go?")
except Failure as failure:
    raise SystemExit(f"{failure} ({int(failure.code)})")
"""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("y\n", "Go? [y/N]: "),
        ("YES\n", "Go? [y/N]: "),
        ("what\ny\n", "Go? [y/N]: Go? [y/N]: "),
        ("n\n", "Go? [y/N]: nothing was done (1)\n"),
        ("\n", "Go? [y/N]: nothing was done (1)\n"),
        ("", "Go? [y/N]: \nnot confirmed; where nobody can answer, say --yes (2)\n"),
    ],
)
def test_a_question_is_asked_on_stderr_alone(answer: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], input=answer, capture_output=True, text=True, check=False, timeout=30
    )

    assert (done.stdout, done.stderr) == ("", said)
    assert done.returncode == (0 if said.endswith(": ") else 1)

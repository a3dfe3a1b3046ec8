"""Takes one safety rule away at a time and asks whether the simulation notices.

`python -m tests.simulation.mutations` copies the package aside, changes one rule in the copy
and plays seeds until one fails.  A rule whose loss nobody notices is a rule that nothing
protects: exit code 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEDS = 1500
_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, the file or directory of the package where it stands, and what stands there without it."""

    name: str
    place: str
    original: str
    mutated: str


RULES = (
    Rule(
        "an order that was not answered is not taken for one that was never sent",
        "dhan/answers.py",
        "        return Unanswered(*name, reply.detail)",
        "        return NotSent(*name, reply.detail)",
    ),
    Rule(
        "an internal error of the broker is no refusal",
        "dhan/answers.py",
        '"DH-906", "DH-907"})',
        '"DH-906", "DH-907", "DH-908", "DH-909", "DH-910"})',
    ),
    Rule(
        "an answer that proves nothing is no refusal",
        "dhan/answers.py",
        "    return Unanswered(*name, _words(reply.status, complaint, problem))",
        '    return Refused(*name, RefusalClass.OTHER, "", _words(reply.status, complaint, problem))',
    ),
    Rule(
        "an answer without an order id is no acceptance",
        "dhan/answers.py",
        "    if not order_id or not _belongs(command, row, order_id):\n        return None",
        '    if not order_id or not _belongs(command, row, order_id):\n        order_id = order_id or "1"',
    ),
    Rule(
        "decisions are committed before anything is sent",
        "journal/store.py",
        "self._connection.executemany(INSERT, rows)",
        "self._connection.executemany(INSERT, rows[:1])",
    ),
    Rule(
        "what a commit took is kept",
        "journal/store.py",
        'self._connection.execute("COMMIT")',
        'self._connection.execute("ROLLBACK")',
    ),
    Rule(
        "a placement that was on its way when the process died is unknown, not forgotten",
        "core",
        "            piece.unknown = piece.unknown or (piece.in_flight is Verb.PLACE and piece.known is None)",
        "            if piece.in_flight is Verb.PLACE and piece.known is None:\n"
        "                rejected = __import__('copytrader.core.model', fromlist=['x']).OrderStatus.REJECTED\n"
        "                piece.void, piece.ended = True, rejected",
    ),
    Rule(
        "an unanswered placement is never sent again",
        "core",
        "            piece.unknown = answer.verb is Verb.PLACE",
        "            _take_back(state, account, piece, answer.verb)",
    ),
    Rule(
        "what was held up is not sent late",
        "sending.py",
        "HELD_UP = timedelta(seconds=2)",
        "HELD_UP = timedelta(hours=2)",
    ),
    Rule(
        "an order is given up only after the longest time it can be on its way",
        "core",
        "ABSENT_AFTER = timedelta(seconds=120)",
        "ABSENT_AFTER = timedelta(seconds=2)",
    ),
    Rule(
        "a look-up that failed does not say that there is no order",
        "listening.py",
        "            self._identity.note_trouble(account, error)\n            return\n        self._feed_rows(account, book.rows)",
        "            self._identity.note_trouble(account, error)\n            book = _Book((), ())\n        self._feed_rows(account, book.rows)",
    ),
    Rule(
        "a book that could not be read is not empty, nor a position flat",
        "dhan/broker.py",
        "        raise BrokerError(detail)\n    try:",
        "        return []\n    try:",
    ),
    Rule(
        "a frame about another client is not ours",
        "dhan/fields.py",
        'raise FrameError("the order belongs to another client id" if value else "no client id")',
        "return",
    ),
    Rule(
        "a refused modification does not say what the leader's terms are",
        "core",
        "_FRAMES_WITH_TERMS = frozenset({OrderStatus.PENDING, OrderStatus.MODIFIED})",
        "_FRAMES_WITH_TERMS = frozenset({OrderStatus.PENDING, OrderStatus.MODIFIED, OrderStatus.MOD_REJECTED})",
    ),
    Rule(
        "a triggered stop loss is not a modification",
        "core",
        "_FRAMES_WITH_TERMS = frozenset({OrderStatus.PENDING, OrderStatus.MODIFIED})",
        "_FRAMES_WITH_TERMS = frozenset({OrderStatus.PENDING, OrderStatus.MODIFIED, OrderStatus.TRIGGERED})",
    ),
    Rule(
        "filled is the highest that was seen",
        "core",
        "filled = max(known.filled_quantity, order.filled_quantity)",
        "filled = order.filled_quantity",
    ),
    Rule(
        "what ended never un-happens",
        "core",
        "    if not status.is_terminal:\n        return ended",
        "    if not status.is_terminal:\n        return None",
    ),
    Rule(
        "a restart does not forget the calls that were made",
        "core",
        "            account.follower, account.ready, account.blocked = follower, False, None\n",
        "            account.follower, account.ready, account.blocked = follower, False, None\n"
        "            account.budget = type(account.budget)()\n",
    ),
    Rule(
        "the shortest limit is kept as well",
        "core",
        "        if self.left(at)[0] <= _RESERVE_SECOND[rank]:\n            return False\n",
        "",
    ),
    Rule(
        "an exit closes no more than the broker shows",
        "core",
        "    if share.net is not None and holding.key.product not in DELIVERED:",
        "    if share.net is None and holding.key.product not in DELIVERED:",
    ),
    Rule(
        "a cancel is repeated until the order has ended",
        "core",
        "    if piece.cancelling and not is_due(scene, piece):",
        "    if piece.cancelling:",
    ),
    Rule(
        "a copy of a copier is not copied",
        "core",
        '    if known.correlation_id.startswith("ct1-"):',
        '    if known.correlation_id.startswith("ct2-"):',
    ),
    Rule(
        "entries are rounded down",
        "core",
        "    lots = max(floor(pool), 0)",
        "    lots = max(-floor(-pool), 0)",
    ),
    Rule(
        "an order above the freeze quantity is sliced",
        "core",
        "    if instrument.freeze_quantity <= 0:",
        "    if instrument.freeze_quantity >= 0:",
    ),
    Rule(
        "another placing has another name",
        "core",
        "|{generation}|{slice_number}",
        "|{slice_number % 2}",
    ),
    Rule(
        "when nothing can be recorded, the copier stops",
        "copier.py",
        "            self._failed.set_exception(error)",
        "            _log.error(error)",
    ),
    Rule(
        "a secret that the broker echoes is taken out",
        "dhan/transport.py",
        '    return message.replace(secret, b"[token]")',
        "    return message",
    ),
    Rule(
        "the books are read again and again",
        "listening.py",
        "            await self.refresh(account, positions=readings.are_wanted(self._state, account, self._now()))\n",
        "            await asyncio.sleep(0)\n",
    ),
    Rule(
        "an unanswered order is looked up",
        "listening.py",
        "            self._door.start(self._resolve(piece.correlation_id, self._accounts[piece.follower]))",
        "            pass",
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    rule: Rule
    seed: int | None
    what: str

    def __str__(self) -> str:
        return f"| {self.rule.name} | {self.what or 'NOT NOTICED'} | {self.seed if self.seed is not None else '-'} |"


def try_rule(rule: Rule, base: Path, seeds: int = SEEDS) -> Verdict:
    """Play seeds without the rule until one fails that holds with it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(base, copy)
        _take_away(rule, copy / "copytrader")
        first = 1
        while first <= seeds:
            verdict = _played(rule, copy, range(first, seeds + 1))
            if verdict.seed is None or _played(rule, base, range(verdict.seed, verdict.seed + 1)).seed is None:
                return verdict
            first = verdict.seed + 1
    return Verdict(rule, None, "")


@contextmanager
def snapshot() -> Iterator[Path]:
    """The package and the simulation as they are now, aside."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for part in ("copytrader", "tests/simulation"):
            shutil.copytree(ROOT / part, base / part, ignore=shutil.ignore_patterns("__pycache__"))
        (base / "tests/__init__.py").touch()
        yield base


def occurrences(rule: Rule, package: Path = ROOT / "copytrader") -> int:
    return sum(file.read_text().count(rule.original) for file in _files(rule, package))


def _files(rule: Rule, package: Path) -> list[Path]:
    place = package / rule.place
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def _take_away(rule: Rule, package: Path) -> None:
    if occurrences(rule, package) != 1:
        raise ValueError(f"{rule.name}: not found once in {rule.place}: {rule.original.strip().splitlines()[0]}")
    for file in _files(rule, package):
        file.write_text(file.read_text().replace(rule.original, rule.mutated))


def _played(rule: Rule, copy: Path, seeds: range) -> Verdict:
    asked = ["--from", str(seeds.start), "--seeds", str(len(seeds))]
    command = [sys.executable, "-m", "tests.simulation", *asked, "--jobs", "1", "--first"]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    found = re.search(r"^seed (\d+)\n +(?:at [\d.]+ s: )?(.*)", done.stdout, re.MULTILINE)
    if found is None:
        return Verdict(rule, None, "" if done.returncode == 0 else f"does not run: {done.stderr[-300:]}")
    return Verdict(rule, int(found[1]), found[2].split(":")[0][:40])


def try_all(rules: Sequence[Rule], seeds: int, jobs: int) -> Iterator[Verdict]:
    with snapshot() as base, ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda rule: try_rule(rule, base, seeds), rules)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutations", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many seeds may pass before a rule is called lost")
    parser.add_argument("--only", default="", help="rules whose name has this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    rules = [rule for rule in RULES if options.only in rule.name]
    missed = 0
    for verdict in try_all(rules, options.seeds, options.jobs):
        sys.stdout.write(f"{verdict}\n")
        sys.stdout.flush()
        missed += verdict.seed is None
    sys.stdout.write(f"{len(rules) - missed} of {len(rules)} rules noticed\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

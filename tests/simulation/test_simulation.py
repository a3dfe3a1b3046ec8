"""Whole days under a virtual clock: the real engine, journal, copier and adapter, and everything that goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.__main__ import SEEDS
from tests.simulation.many import play_many
from tests.simulation.mutations import ROOT, RULES, Rule, occurrences
from tests.simulation.world import run

MANY = int(os.environ.get("COPYTRADER_SEEDS", "200"))
"""How many seeds the suite plays; `python -m tests.simulation` plays thousands."""


def _kept() -> list[int]:
    lines = (line.split("#")[0].strip() for line in SEEDS.read_text().splitlines())
    return sorted({int(line) for line in lines if line})


@pytest.mark.parametrize("seed", _kept())
def test_a_day_that_once_went_wrong_goes_right(seed: int, tmp_path: Path) -> None:
    assert run(seed, tmp_path).problems == ()


def test_days_drawn_by_chance_break_no_invariant() -> None:
    failed = {each.seed: each.problems for each in play_many(range(1, MANY + 1), os.cpu_count() or 1) if each.problems}

    assert failed == {}


def test_a_seed_plays_alike_wherever_it_is_played(tmp_path: Path) -> None:
    seeds = (3, 12, 17, 40, 64)
    here = [run(seed, tmp_path).digest for seed in seeds]

    assert len(set(here)) == len(seeds)
    (tmp_path / "again").mkdir()
    assert [run(seed, tmp_path / "again").digest for seed in seeds] == here
    for hash_seed in ("1", "2"):
        assert _digests_elsewhere(seeds, hash_seed) == here


def _digests_elsewhere(seeds: tuple[int, ...], hash_seed: str) -> list[str]:
    """Play the seeds in a process of its own, which hashes strings differently."""
    code = f"from tests.simulation.world import run\nfor seed in {seeds}: print(run(seed).digest)"
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_that_is_taken_away_by_way_of_trial_is_where_it_is_said_to_be(rule: Rule) -> None:
    assert occurrences(rule) == 1

"""Play many seeds: `python -m tests.simulation --seeds 5000`.

Each failing seed is printed with what was broken; `--seed N --trace` plays it again and tells
everything.  With `--keep` it is added to `seeds.txt`, which the test suite plays for ever.
Exit code 1 where a seed failed or, in a long run, a kind of trouble never happened.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.simulation import trace
from tests.simulation.many import play_many
from tests.simulation.swarm import draw
from tests.simulation.trouble import never_met
from tests.simulation.world import World, play

SEEDS = Path(__file__).parent / "seeds.txt"
ENOUGH_TO_MEET_ALL = 2000


def main(arguments: list[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    if options.seed is not None:
        return _play_one(options.seed, tell=options.trace)
    began = time.perf_counter()
    seeds = range(options.start, options.start + options.seeds)
    counts: Counter[str] = Counter()
    failed: list[int] = []
    for outcome in play_many(seeds, options.jobs):
        counts += outcome.counts
        if outcome.problems:
            failed.append(outcome.seed)
            _say(f"seed {outcome.seed}", *(f"    {text}" for text in outcome.problems[:4]))
            if options.keep:
                _keep(outcome.seed, outcome.problems[0])
            if options.first:
                break
    seconds = time.perf_counter() - began
    _say(f"{len(seeds)} seeds, {len(failed)} failed, {len(seeds) / seconds:.1f} a second")
    if options.counts:
        _say(*(f"{count:9} {what}" for what, count in sorted(counts.items())))
    missing = never_met(counts) if len(seeds) >= ENOUGH_TO_MEET_ALL and not options.first else []
    if missing:
        _say(f"never met: {', '.join(missing)}")
    return 1 if failed or missing else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--from", dest="start", type=int, default=1, help="the first")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, help="play this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell everything that happened")
    parser.add_argument("--keep", action="store_true", help="add failing seeds to seeds.txt")
    parser.add_argument("--first", action="store_true", help="stop at the first failure")
    parser.add_argument("--counts", action="store_true", help="show what happened how often")
    return parser


def _play_one(seed: int, *, tell: bool) -> int:
    with tempfile.TemporaryDirectory() as folder:
        world = World(draw(seed), Path(folder))
        outcome = play(world)
    if tell:
        _say(str(world.swarm), *trace.lines(world))
    _say(f"seed {seed}: {outcome.digest}", *(f"    {text}" for text in outcome.problems))
    return 1 if outcome.problems else 0


def _keep(seed: int, why: str) -> None:
    with SEEDS.open("a") as kept:
        kept.write(f"{seed}  # {why[:120]}\n")


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

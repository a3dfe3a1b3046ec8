"""`--check`: what is recorded must be what the engine decides; if not, the first difference is named."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from copytrader.core import sizing
from copytrader.core.facts import Place, Started
from copytrader.core.model import Instrument
from copytrader.journal import Journal, chain
from copytrader.journal.codec import decode
from copytrader.replay.proof import Verdict, prove
from copytrader.replay.recording import Window
from tests.replay.support import decided, desk, example, journal_of, state_of, write


def proof(path: Path, window: Window = Window()) -> Verdict:  # noqa: B008 - immutable
    with Journal.open(path, read_only=True) as journal:
        return prove(journal, window)


def alter(path: Path, seq: int, old: str, new: str, *, rehash: bool = False, keep_dropped: bool = False) -> None:
    """Change a fact's body behind the journal's back, with or without making the chain fit again."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TRIGGER facts_are_final")
        (body,) = db.execute("SELECT body FROM facts WHERE seq = ?", (seq,)).fetchone()
        assert old in body
        db.execute("UPDATE facts SET body = ? WHERE seq = ?", (body.replace(old, new, 1), seq))
        if rehash:
            previous = ""
            for row in db.execute("SELECT * FROM facts ORDER BY seq").fetchall():
                previous = chain.chain_hash(previous, row[:9], row[9])
                db.execute("UPDATE facts SET hash = ? WHERE seq = ?", (previous, row[0]))
        if not keep_dropped:
            db.execute("CREATE TRIGGER facts_are_final BEFORE UPDATE ON facts BEGIN SELECT RAISE(ABORT, 'final'); END")
        db.commit()


def first_place(path: Path) -> int:
    with Journal.open(path, read_only=True) as journal:
        return next(row.seq for row in journal.facts(kinds=["Place"]))


def test_a_recorded_day_is_decided_alike(tmp_path: Path) -> None:
    verdict = proof(journal_of(tmp_path / "j.db", desk("asha:ratio=0.5", "ravi:mode=lots,lots=2")))

    assert verdict.identical
    assert verdict.events > 60
    assert verdict.decisions > 40


def test_one_changed_byte_is_found_and_its_row_named(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "j.db", desk("asha:ratio=0.5"))
    alter(path, 40, '"', "'")

    verdict = proof(path)

    assert verdict.first_difference is not None
    assert verdict.first_difference.seq == 40
    assert "fact 40 or its hash was changed" in verdict.first_difference.what


def test_a_decision_that_was_altered_with_its_hashes_still_differs(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "j.db", desk("asha:ratio=0.5"))
    seq = first_place(path)
    alter(path, seq, '"quantity":150', '"quantity":300', rehash=True)

    found = proof(path).first_difference

    assert found is not None
    assert found.seq == seq
    assert found.fields == ("ticket.quantity: recorded 300, decided 150",)
    assert found.state is not None
    assert "leader_order" in found.state


def test_another_rule_in_the_engine_names_the_first_decision_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = journal_of(tmp_path / "j.db", desk("asha:ratio=0.5"))

    def generous(quantity: int, instrument: Instrument, factor: Decimal) -> Decimal:
        return Decimal(-(-quantity // instrument.lot_size)) * factor + Decimal("0.5")

    monkeypatch.setattr(sizing, "exact_lots", generous)
    found = proof(path).first_difference

    assert found is not None
    with Journal.open(path, read_only=True) as journal:
        assert found.seq == next(row.seq for row in journal.facts(kinds=["Sized"]))
    assert found.recorded is not None
    assert found.decided is not None
    assert found.recorded["kind"] == found.decided["kind"] == "Sized"
    assert any(text.startswith("exact: ") for text in found.fields)
    assert found.event == "OrderSeen"


def test_an_event_that_was_altered_changes_what_follows(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "j.db", desk("asha:ratio=0.5"))
    with Journal.open(path, read_only=True) as journal:
        seq = next(row.seq for row in journal.facts(kinds=["OrderSeen"]))
    alter(path, seq, '"quantity":300', '"quantity":900', rehash=True)

    found = proof(path).first_difference

    assert found is not None
    assert found.event_seq == seq


def test_each_run_begins_with_what_earlier_live_runs_left(tmp_path: Path) -> None:
    """Dry, live, dry, live: the positions of the live runs go on, those on paper do not."""
    path, follower = tmp_path / "j.db", desk("asha:ratio=0.5")
    first, last = example()[:30], example()
    write(path, decided(first, follower, dry_run=True))
    assert state_of(path).orders == {}
    write(path, decided(first, follower, state_of(path)))
    write(path, decided(last, follower, state_of(path), dry_run=True))
    write(path, decided(last, follower, state_of(path)))

    assert proof(path).identical
    with Journal.open(path, read_only=True) as journal:
        dry = [row.fact.dry_run for row in journal.facts(kinds=["Started"]) if isinstance(row.fact, Started)]
    assert dry == [True, False, True, False]


def test_a_part_of_the_day_is_checked_from_the_start_of_its_run(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "j.db", desk("asha:ratio=0.5"))
    at = example()[-1].at

    whole, part = proof(path), proof(path, Window(since=at - timedelta(hours=1), until=at))

    assert part.identical
    assert 0 < part.events < whole.events


def test_a_decision_that_an_older_program_spelt_with_fewer_fields_is_the_same(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "j.db", desk("asha:ratio=0.5"))
    seq = first_place(path)
    alter(path, seq, ',"sweep":false', "", rehash=True)
    with Journal.open(path, read_only=True) as journal:
        row = journal.row(seq)
        assert row is not None
        assert isinstance(decode(row.kind, row.body), Place)
        assert "sweep" not in json.loads(row.body)

    assert proof(path).identical


def test_a_difference_in_an_older_program_s_journal_says_which_version_decided(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "j.db", desk("asha:ratio=0.5"))
    with Journal.open(path, read_only=True) as journal:
        version = next(row.fact.version for row in journal.facts(kinds=["Started"]) if isinstance(row.fact, Started))
    alter(path, 1, f'"version":"{version}"', '"version":"0.0.1"', rehash=True)
    alter(path, first_place(path), '"quantity":150', '"quantity":75', rehash=True)

    found = proof(path).first_difference

    assert found is not None
    assert "copytrader 0.0.1 recorded it" in found.what

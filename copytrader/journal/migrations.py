"""The schema, as numbered steps that are only ever added to.

The last step's number is `schema.VERSION`.  This file is read only when a journal is new
or older than the program: sqlite-utils takes longer to import than a start may.
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

from copytrader.journal import views

migrations = Migrations("copytrader")

_FACTS = """
CREATE TABLE facts (
    seq INTEGER PRIMARY KEY,
    cause INTEGER REFERENCES facts(seq),
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    follower TEXT,
    leader_order_id TEXT,
    order_id TEXT,
    correlation_id TEXT,
    reason TEXT,
    body TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT
"""

_INDEXES = (
    "CREATE INDEX facts_by_cause ON facts (cause, kind) WHERE cause IS NOT NULL",
    "CREATE INDEX facts_by_time ON facts (at)",
    "CREATE INDEX facts_by_kind ON facts (kind, at)",
    "CREATE INDEX facts_by_follower ON facts (follower, at) WHERE follower IS NOT NULL",
    "CREATE INDEX facts_by_leader_order ON facts (leader_order_id) WHERE leader_order_id IS NOT NULL",
    "CREATE INDEX facts_by_order ON facts (order_id) WHERE order_id IS NOT NULL",
    "CREATE INDEX facts_by_correlation ON facts (correlation_id, leader_order_id) WHERE correlation_id IS NOT NULL",
)

_TRIGGERS = (
    "CREATE TRIGGER facts_are_final BEFORE UPDATE ON facts BEGIN SELECT RAISE(ABORT, 'facts are final'); END",
    "CREATE TRIGGER facts_are_kept BEFORE DELETE ON facts BEGIN SELECT RAISE(ABORT, 'facts are kept'); END",
)

# What a dry run decided is never sent: a command belongs to the run that began last before it.
_OUTBOX = """
CREATE VIEW outbox AS
SELECT command.*
FROM facts AS command
WHERE command.kind IN ('Place', 'Modify', 'Cancel')
AND NOT EXISTS (
    SELECT 1 FROM facts AS outcome
    WHERE outcome.cause = command.seq
    AND outcome.kind IN ('Accepted', 'Refused', 'Throttled', 'Unanswered', 'NotSent')
)
AND coalesce((
    SELECT instr(started.body, '"dry_run":true') FROM facts AS started
    WHERE started.seq = (SELECT max(run.seq) FROM facts AS run WHERE run.kind = 'Started' AND run.seq < command.seq)
), 0) = 0
"""

_INBOX = """
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    taken INTEGER REFERENCES facts(seq)
) STRICT
"""


@migrations()
def m001_facts_and_inbox(db: Database) -> None:
    """Create the one table of facts, the questions put to it, and the operator's inbox."""
    inbox_waiting = "CREATE INDEX inbox_waiting ON inbox (id) WHERE taken IS NULL"
    for statement in (_FACTS, *_INDEXES, *_TRIGGERS, _OUTBOX, _INBOX, inbox_waiting):
        db.execute(statement)


# What was moved into an archive: every fact up to one, whose hash the first fact that stayed follows.
_PRUNED = """
CREATE TABLE pruned (
    through INTEGER PRIMARY KEY,
    hash TEXT NOT NULL,
    at TEXT NOT NULL,
    archive TEXT NOT NULL
) STRICT
"""


@migrations()
def m002_views_and_pruned(db: Database) -> None:
    """Create the documented views, the indexes that keep them fast, and a record of what was archived."""
    db.execute(_PRUNED)
    _create_indexes(db)
    _create_views_anew(db)


@migrations()
def m003_views_keep_paper_apart(db: Database) -> None:
    """Create the views anew, which keep what a dry run recorded apart."""
    _create_views_anew(db)


@migrations()
def m004_what_an_order_is_of_costs_less(db: Database) -> None:
    """Create the index by security anew: without sightings of followers' orders, and instruments apart."""
    db.execute("DROP INDEX IF EXISTS facts_by_security")
    _create_indexes(db)
    _create_views_anew(db)


def _create_indexes(db: Database) -> None:
    for name, on in views.INDEXES.items():
        db.execute(f"CREATE INDEX IF NOT EXISTS {name} {on}")


def _create_views_anew(db: Database) -> None:
    for name in reversed(views.VIEWS):
        db.execute(f"DROP VIEW IF EXISTS {name}")
    for name, query in views.VIEWS.items():
        db.execute(f"CREATE VIEW {name} AS {query}")

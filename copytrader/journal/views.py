"""The documented views over the facts: what SQL, the reports and other tools ask.

Every view but `instruments` has the Indian `day` as ISO text, which an index serves, and the time `at`.
Prices are numbers here and exact text in the facts.  A view says nothing that the facts do not say.

What a dry run recorded is on paper only.  The names of copies are the same on paper and live, so whatever a view puts
together by a name is of one run on paper, or live: `on_paper` tells which.
"""

from __future__ import annotations

_DAY = "substr({}.at, 1, 10)"
# The object in the body that names what is traded, as text.  The writer trusts no schema, and some builds of
# SQLite count their JSON functions as unsafe in one: an index must do without them.
_SECURITY = (
    """substr({0}.body, instr({0}.body, '"security":{{') + 11, """
    """instr(substr({0}.body, instr({0}.body, '"security":{{')), '}}') - 11)"""
)
_NAMES_AN_ORDER = "({0}.kind = 'Place' OR ({0}.kind = 'OrderSeen' AND {0}.follower IS NULL))"


def newest_row_of(security: str) -> str:
    """Select the newest row of the master that was read for a security."""
    return f"""(
    SELECT max(known.seq) FROM facts AS known
    WHERE known.kind = 'InstrumentRead' AND {_SECURITY.format("known")} = {security}
)"""  # noqa: S608  # constants


def _symbol(security: str) -> str:
    """Select the symbol of a security, null where its row was never read."""
    row = newest_row_of(security)
    return f"(SELECT json_extract(body, '$.instrument.symbol') FROM facts WHERE seq = {row})"  # noqa: S608  # constants


def security_of(table: str) -> str:
    """Return the expression for what a fact's order or instrument is: the key of an index."""
    return _SECURITY.format(table)


def names_an_order(table: str) -> str:
    """Return the condition under which a fact is in that index: it brings up the leader's order, or a copy."""
    return _NAMES_AN_ORDER.format(table)


DRY_RUNS = """dry AS MATERIALIZED (
    SELECT run.seq AS began, coalesce((
        SELECT min(after.seq) FROM facts AS after WHERE after.kind = 'Started' AND after.seq > run.seq
    ), 9223372036854775807) AS ended
    FROM facts AS run WHERE run.kind = 'Started' AND instr(run.body, '"dry_run":true') > 0
)"""
"""What a query with `on_paper` begins with, after WITH; it is empty where nobody ever made a dry run."""


def on_paper(table: str) -> str:
    """Return the expression for the dry run that a fact belongs to: the seq of its `Started`; 0 for a live fact."""
    return f"""coalesce((
        SELECT dry.began FROM dry WHERE dry.began < {table}.seq AND dry.ended > {table}.seq
    ), 0)"""  # noqa: S608  # constants


def _together(one: str, other: str) -> str:
    """Return the condition under which two facts are both live, or of the same dry run."""
    return f"{on_paper(one)} = {on_paper(other)}"


_BARE_SECURITY = security_of("facts").replace("facts.", "")
_BARE_CONDITION = names_an_order("facts").replace("facts.", "")
INDEXES = {
    "facts_by_day": "ON facts (substr(at, 1, 10), kind)",
    "facts_by_reason": "ON facts (reason, at) WHERE reason IS NOT NULL",
    "facts_by_instrument": f"ON facts ({_BARE_SECURITY}) WHERE kind = 'InstrumentRead'",
    # The facts of one order follow one another here too: what is decided on it mostly costs no further page.
    "facts_by_security": f"ON facts ({_BARE_SECURITY}) WHERE {_BARE_CONDITION}",
}
"""What each index that the views need is on."""

_INSTRUMENTS = """
SELECT
    seq,
    json_extract(body, '$.instrument.security.exchange_segment') AS exchange_segment,
    json_extract(body, '$.instrument.security.security_id') AS security_id,
    json_extract(body, '$.instrument.symbol') AS symbol,
    json_extract(body, '$.instrument.underlying') AS underlying,
    json_extract(body, '$.instrument.lot_size') AS lot_size,
    CAST(json_extract(body, '$.instrument.tick_size') AS REAL) AS tick_size,
    json_extract(body, '$.instrument.freeze_quantity') AS freeze_quantity,
    json_extract(body, '$.instrument.multiplier') AS multiplier
FROM facts WHERE kind = 'InstrumentRead'
"""

# Of a stream's frames only Pending and Modified tell terms; a book's row always does.
_SIGHTINGS = f"""
SELECT
    {_DAY.format("facts")} AS day, facts.at, facts.seq, facts.follower,
    json_extract(told.value, '$.order_id') AS order_id,
    nullif(json_extract(told.value, '$.correlation_id'), '') AS correlation_id,
    coalesce(json_extract(facts.body, '$.source'), 'BOOK') AS source,
    json_extract(told.value, '$.status') AS status,
    coalesce(json_extract(facts.body, '$.source'), 'BOOK') <> 'STREAM'
        OR json_extract(told.value, '$.status') IN ('PENDING', 'MODIFIED') AS has_terms,
    told.value AS described
FROM facts, json_each(CASE facts.kind
    WHEN 'BookRead' THEN json_extract(facts.body, '$.orders')
    ELSE json_array(json_extract(facts.body, '$.order'))
END) AS told
WHERE facts.kind IN ('OrderSeen', 'BookRead')
"""  # noqa: S608  # constants

# The newest sighting that tells terms is the one with the greatest seq: the seq, of fixed width, is glued before it.
_ORDERS = f"""
WITH {DRY_RUNS}, seen AS (
    SELECT
        day, order_id, min(at) AS at, max(at) AS last_at, min(seq) AS seq,
        substr(max(has_terms || printf('%015d', seq) || described), 17) AS described,
        ',' || group_concat(DISTINCT status) || ',' AS statuses,
        min({on_paper("sightings")}) > 0 AS dry_run
    FROM sightings WHERE follower IS NULL
    GROUP BY day, order_id
)
SELECT
    seen.day, seen.at, seen.seq, seen.order_id AS leader_order_id,
    {_symbol("json_extract(described, '$.ticket.security')")} AS symbol,
    json_extract(described, '$.ticket.security.exchange_segment') AS exchange_segment,
    json_extract(described, '$.ticket.security.security_id') AS security_id,
    json_extract(described, '$.ticket.side') AS side,
    json_extract(described, '$.ticket.product') AS product,
    json_extract(described, '$.ticket.order_type') AS order_type,
    json_extract(described, '$.ticket.validity') AS validity,
    json_extract(described, '$.ticket.quantity') AS quantity,
    CAST(json_extract(described, '$.ticket.price') AS REAL) AS price,
    CAST(json_extract(described, '$.ticket.trigger_price') AS REAL) AS trigger_price,
    CASE
        WHEN statuses LIKE '%,TRADED,%' THEN 'TRADED'
        WHEN statuses LIKE '%,CANCELLED,%' THEN 'CANCELLED'
        WHEN statuses LIKE '%,REJECTED,%' THEN 'REJECTED'
        WHEN statuses LIKE '%,EXPIRED,%' THEN 'EXPIRED'
        WHEN statuses LIKE '%,PART_TRADED,%' THEN 'PART_TRADED'
        WHEN statuses = ',TRANSIT,' THEN 'TRANSIT'
        ELSE 'PENDING'
    END AS status,
    instr(statuses, ',MODIFIED,') > 0 AS modified,
    coalesce(json_extract(filled.body, '$.filled_quantity'), 0) AS filled_quantity,
    CAST(json_extract(filled.body, '$.average_price') AS REAL) AS average_price,
    last_at, dry_run
FROM seen
LEFT JOIN facts AS filled ON filled.seq = (
    SELECT max(fill.seq) FROM facts AS fill
    WHERE fill.leader_order_id = seen.order_id AND fill.kind = 'Filled' AND fill.follower IS NULL
    AND +substr(fill.at, 1, 10) = seen.day
)
"""  # noqa: S608  # constants

# A change is in force once the broker took it, unless the exchange refused it afterwards.
_COPIES = f"""
WITH {DRY_RUNS}
SELECT
    {_DAY.format("placed")} AS day, placed.at, placed.seq, placed.follower, placed.leader_order_id,
    (
        SELECT max(named.order_id) FROM facts AS named
        WHERE named.correlation_id = placed.correlation_id AND {_together("named", "placed")}
    ) AS order_id,
    placed.correlation_id,
    {_symbol(_SECURITY.format("placed"))} AS symbol,
    json_extract(placed.body, '$.ticket.security.exchange_segment') AS exchange_segment,
    json_extract(placed.body, '$.ticket.security.security_id') AS security_id,
    json_extract(placed.body, '$.ticket.side') AS side,
    json_extract(placed.body, '$.ticket.product') AS product,
    json_extract(coalesce(changed.body, placed.body), '$.ticket.order_type') AS order_type,
    json_extract(coalesce(changed.body, placed.body), '$.ticket.quantity') AS quantity,
    CAST(json_extract(coalesce(changed.body, placed.body), '$.ticket.price') AS REAL) AS price,
    CAST(json_extract(coalesce(changed.body, placed.body), '$.ticket.trigger_price') AS REAL) AS trigger_price,
    json_extract(placed.body, '$.role') AS role,
    json_extract(placed.body, '$.generation') AS generation,
    json_extract(placed.body, '$.sweep') AS sweep,
    (
        SELECT answer.kind FROM facts AS answer WHERE answer.cause = placed.seq
        AND answer.kind IN ('Accepted', 'Refused', 'Throttled', 'Unanswered', 'NotSent')
    ) AS answer,
    (
        SELECT count(*) FROM facts AS change
        WHERE change.correlation_id = placed.correlation_id AND change.kind = 'Accepted'
        AND json_extract(change.body, '$.verb') = 'MODIFY' AND {_together("change", "placed")}
    ) AS modifications,
    json_extract(over.body, '$.status') AS status,
    coalesce(json_extract(filled.body, '$.filled_quantity'), 0) AS filled_quantity,
    CAST(json_extract(filled.body, '$.average_price') AS REAL) AS average_price,
    {on_paper("placed")} > 0 AS dry_run
FROM facts AS placed
LEFT JOIN facts AS filled ON filled.seq = (
    SELECT max(fill.seq) FROM facts AS fill
    WHERE fill.correlation_id = placed.correlation_id AND fill.kind = 'Filled' AND {_together("fill", "placed")}
)
LEFT JOIN facts AS over ON over.seq = (
    SELECT max(end.seq) FROM facts AS end
    WHERE end.correlation_id = placed.correlation_id AND end.kind = 'Ended' AND {_together("end", "placed")}
)
LEFT JOIN facts AS changed ON changed.seq = (
    SELECT max(change.seq) FROM facts AS change
    WHERE change.correlation_id = placed.correlation_id AND change.kind = 'Modify' AND {_together("change", "placed")}
    AND EXISTS (SELECT 1 FROM facts AS answer WHERE answer.cause = change.seq AND answer.kind = 'Accepted')
    AND NOT EXISTS (
        SELECT 1 FROM facts AS refused
        WHERE refused.order_id = change.order_id AND refused.kind = 'OrderSeen' AND refused.seq > change.seq
        AND json_extract(refused.body, '$.order.status') = 'MOD_REJECTED'
        AND json_extract(refused.body, '$.order.ticket.quantity') = json_extract(change.body, '$.ticket.quantity')
        AND json_extract(refused.body, '$.order.ticket.price') = json_extract(change.body, '$.ticket.price')
    )
)
WHERE placed.kind = 'Place'
"""  # noqa: S608  # constants

_OF_LEADER_ORDER = """coalesce(
    (
        SELECT {seen} FROM facts AS seen
        WHERE seen.leader_order_id = {row}.leader_order_id AND seen.kind = 'OrderSeen' AND seen.follower IS NULL
        ORDER BY seen.seq LIMIT 1
    ),
    (
        SELECT json_extract(row.value, '$.ticket.security')
        FROM facts AS book, json_each(book.body, '$.orders') AS row
        WHERE book.seq = {row}.cause AND book.kind = 'BookRead'
        AND json_extract(row.value, '$.order_id') = {row}.leader_order_id
    )
)"""

_SKIPS = f"""
WITH {DRY_RUNS}, skip AS (
    SELECT
        *, {_OF_LEADER_ORDER.format(row="facts", seen=_SECURITY.format("seen"))} AS security
    FROM facts WHERE kind = 'Skip'
)
SELECT
    {_DAY.format("skip")} AS day, skip.at, skip.seq, skip.follower, skip.leader_order_id, skip.correlation_id,
    {_symbol("skip.security")} AS symbol,
    skip.reason,
    json_extract(skip.body, '$.detail') AS detail,
    json_extract(skip.body, '$.refusal') AS refusal,
    {on_paper("skip")} > 0 AS dry_run
FROM skip
"""  # noqa: S608  # constants

_FILLS = f"""
WITH {DRY_RUNS}, fill AS (
    SELECT facts.*, coalesce(
        json_extract(placed.body, '$.ticket'), json_extract(seen.body, '$.order.ticket'),
        CASE WHEN placed.seq IS NULL AND seen.seq IS NULL THEN (
            SELECT json_extract(row.value, '$.ticket')
            FROM facts AS book, json_each(book.body, '$.orders') AS row
            WHERE book.seq = facts.cause AND book.kind = 'BookRead'
            AND json_extract(row.value, '$.order_id') = facts.order_id
        ) END
    ) AS ticket
    FROM facts
    LEFT JOIN facts AS placed ON placed.seq = (
        SELECT min(place.seq) FROM facts AS place
        WHERE place.correlation_id = facts.correlation_id AND place.kind = 'Place'
    )
    LEFT JOIN facts AS seen ON seen.seq = (
        SELECT min(told.seq) FROM facts AS told WHERE told.order_id = facts.order_id AND told.kind = 'OrderSeen'
        AND told.follower IS facts.follower
    )
    WHERE facts.kind = 'Filled'
)
SELECT
    {_DAY.format("fill")} AS day, fill.at, fill.seq, fill.follower, fill.leader_order_id, fill.order_id,
    fill.correlation_id,
    {_symbol("json_extract(fill.ticket, '$.security')")} AS symbol,
    json_extract(fill.ticket, '$.security.exchange_segment') AS exchange_segment,
    json_extract(fill.ticket, '$.security.security_id') AS security_id,
    json_extract(fill.ticket, '$.side') AS side,
    json_extract(fill.ticket, '$.product') AS product,
    json_extract(fill.body, '$.quantity') AS quantity,
    json_extract(fill.body, '$.filled_quantity') AS filled_quantity,
    CAST(json_extract(fill.body, '$.average_price') AS REAL) AS average_price,
    CAST(nullif(json_extract(fill.body, '$.leader_price'), '0') AS REAL) AS leader_price,
    {on_paper("fill")} > 0 AS dry_run
FROM fill
"""  # noqa: S608  # constants

_MICROSECONDS = (
    "(strftime('%s', substr({0}, 1, 19)) * 1000000"
    " + CASE substr({0}, 20, 1) WHEN '.' THEN CAST(substr({0}, 21, 6) AS INTEGER) ELSE 0 END)"
)


def _milliseconds(later: str, earlier: str) -> str:
    """Both are times in Indian time; SQLite's own functions know milliseconds only."""
    return f"({_MICROSECONDS.format(later)} - {_MICROSECONDS.format(earlier)}) / 1000.0"


_LATENCY = f"""
WITH {DRY_RUNS}, told AS (
    SELECT
        command.at, command.seq, command.cause, command.kind, command.follower, command.leader_order_id,
        command.correlation_id, answer.order_id, answer.kind AS answer, answer.at AS answered_at,
        json_extract(answer.body, '$.times.decided') AS decided_at,
        json_extract(answer.body, '$.times.durable') AS durable_at,
        json_extract(answer.body, '$.times.sent') AS sent_at,
        (
            SELECT min(fill.at) FROM facts AS fill
            WHERE command.kind = 'Place' AND fill.correlation_id = command.correlation_id AND +fill.kind = 'Filled'
            AND {_together("fill", "command")}
        ) AS filled_at
    FROM facts AS command
    JOIN facts AS answer ON answer.cause = command.seq
    WHERE command.kind IN ('Place', 'Modify', 'Cancel')
    AND answer.kind IN ('Accepted', 'Refused', 'Throttled', 'Unanswered', 'NotSent')
)
SELECT
    {_DAY.format("told")} AS day, told.at, told.seq, told.follower, told.leader_order_id, told.order_id,
    told.correlation_id,
    upper(told.kind) AS verb,
    told.answer,
    (SELECT event.kind FROM facts AS event WHERE event.seq = told.cause) AS event,
    {_milliseconds("decided_at", "told.at")} AS decided_ms,
    {_milliseconds("durable_at", "decided_at")} AS durable_ms,
    {_milliseconds("sent_at", "durable_at")} AS sent_ms,
    {_milliseconds("answered_at", "sent_at")} AS answered_ms,
    {_milliseconds("filled_at", "answered_at")} AS filled_ms,
    {_milliseconds("answered_at", "told.at")} AS total_ms,
    {on_paper("told")} > 0 AS dry_run
FROM told
"""  # noqa: S608  # constants

_SLIPPAGE = f"""
WITH {DRY_RUNS}, compared AS (
    SELECT
        filled.at, filled.seq, filled.follower, filled.leader_order_id, filled.order_id, filled.correlation_id,
        {_SECURITY.format("placed")} AS security,
        json_extract(placed.body, '$.ticket.side') AS side,
        json_extract(filled.body, '$.filled_quantity') AS quantity,
        CAST(json_extract(filled.body, '$.average_price') AS REAL) AS average_price,
        CAST(coalesce(
            json_extract(lead.body, '$.average_price'), json_extract(filled.body, '$.leader_price')
        ) AS REAL) AS leader_price
    FROM facts AS filled
    JOIN facts AS placed ON placed.seq = (
        SELECT min(place.seq) FROM facts AS place
        WHERE place.correlation_id = filled.correlation_id AND place.kind = 'Place'
    )
    LEFT JOIN facts AS lead ON lead.seq = (
        SELECT max(led.seq) FROM facts AS led
        WHERE led.leader_order_id = filled.leader_order_id AND led.kind = 'Filled' AND led.follower IS NULL
        AND {_together("led", "filled")}
    )
    WHERE filled.kind = 'Filled' AND filled.follower IS NOT NULL
    AND NOT EXISTS (
        SELECT 1 FROM facts AS more
        WHERE more.correlation_id = filled.correlation_id AND more.kind = 'Filled' AND more.seq > filled.seq
        AND {_together("more", "filled")}
    )
)
SELECT
    {_DAY.format("compared")} AS day, compared.at, compared.seq, follower, leader_order_id, order_id, correlation_id,
    symbol, side, quantity, average_price, leader_price,
    round(CASE side WHEN 'BUY' THEN 1 ELSE -1 END * (average_price - leader_price), 6) AS worse,
    round(CASE side WHEN 'BUY' THEN 1 ELSE -1 END * (average_price - leader_price) / tick_size, 4) AS ticks,
    round(
        CASE side WHEN 'BUY' THEN 1 ELSE -1 END * (average_price - leader_price) * quantity * coalesce(multiplier, 1), 4
    ) AS rupees,
    {on_paper("compared")} > 0 AS dry_run
FROM compared
LEFT JOIN instruments ON instruments.seq = {newest_row_of("compared.security")}
WHERE leader_price > 0 AND average_price > 0
"""  # noqa: S608  # constants

_ALERTS = f"""
WITH {DRY_RUNS}
SELECT
    {_DAY.format("facts")} AS day, at, seq, follower,
    json_extract(body, '$.level') AS level,
    json_extract(body, '$.text') AS text,
    json_extract(body, '$.key') AS "key",
    {on_paper("facts")} > 0 AS dry_run
FROM facts WHERE kind = 'Alert'
"""  # noqa: S608  # constants

VIEWS = {
    "instruments": _INSTRUMENTS,
    "sightings": _SIGHTINGS,
    "orders": _ORDERS,
    "copies": _COPIES,
    "skips": _SKIPS,
    "fills": _FILLS,
    "latency": _LATENCY,
    "slippage": _SLIPPAGE,
    "alerts": _ALERTS,
}
"""Name and query of each view; a view uses only those before it."""

"""`copytrader replay`: a recorded day through the same engine, to prove it or to ask what if."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from copytrader.cli.options import AsCsv, AsJson, ConfigPath
from copytrader.failure import ExitCode, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from copytrader.paper import FillModel
    from copytrader.render import Column
    from copytrader.replay.play import Step
    from copytrader.replay.proof import Difference, Verdict
    from copytrader.replay.request import Replay, Request
    from copytrader.replay.summary import Played
    from copytrader.replay.what_if import Before

Source = Annotated[
    Path | None,
    typer.Argument(
        metavar="[SOURCE]", help="A journal, or a .jsonl of frames; the configuration's journal if left out."
    ),
]
Check = Annotated[bool, typer.Option("--check", help="Prove that the engine decides what was recorded; exit 0 or 3.")]
Day = Annotated[
    str | None, typer.Option("--date", metavar="DAY", help="The day, such as 2026-11-23; today if left out.")
]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="From this time on, such as 10:15.")]
Until = Annotated[
    str | None, typer.Option(metavar="TIME|ORDER", help="Up to this time; or stop at this order and show the state.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="What if: another rule, such as followers.asha.sizing.ratio=0.8."),
]
Add = Annotated[
    list[str] | None,
    typer.Option(
        "--add-follower", metavar="NAME[:KEY=VALUE,...]", help="What if: one follower more, such as ravi:ratio=2."
    ),
]
Slippage = Annotated[int | None, typer.Option(min=0, max=10_000, help="What if: prices this many ticks worse.")]
Rejects = Annotated[float | None, typer.Option(min=0, max=1, help="What if: this share of orders is refused.")]
Latency = Annotated[
    float | None, typer.Option(min=0, max=3_600_000, help="What if: answers take so many milliseconds.")
]
Seed = Annotated[int, typer.Option(help="Chance for --reject-rate: the same seed, the same refusals.")]
Speed = Annotated[float | None, typer.Option(min=0.001, help="Play it before your eyes, so many times as fast.")]
Report = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the result as one page of HTML.")]


def replay(
    ctx: typer.Context,
    source: Source = None,
    config: ConfigPath = None,
    check: Check = False,
    day: Day = None,
    since: Since = None,
    until: Until = None,
    changes: Set = None,
    added: Add = None,
    slippage_ticks: Slippage = None,
    reject_rate: Rejects = None,
    latency_ms: Latency = None,
    seed: Seed = 0,
    speed: Speed = None,
    report: Report = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> ExitCode:
    """Push a recorded day through the same engine again.

    --check proves that it decides alike. Other rules (--config, --set, --add-follower) or a less kind market
    show what would have been, beside what was. Opens no connection.
    """
    import gc

    from copytrader.replay import rules
    from copytrader.replay.offline import offline
    from copytrader.replay.request import COLLECT_AFTER, Request

    # A replay makes little garbage, and its state is large to look through for some.
    gc.set_threshold(COLLECT_AFTER)
    source_of_seed = ctx.get_parameter_source("seed")
    if source_of_seed is not None and source_of_seed.name != "DEFAULT" and not reject_rate:
        raise Failure(
            "--seed chooses what --reject-rate refuses: give a rate, or leave --seed out", code=ExitCode.USAGE
        )
    model = _model(slippage_ticks, reject_rate, latency_ms, seed)
    request = Request(source, config, day, since, until, rules.parsed(changes or ()), tuple(added or ()), model)
    with offline():
        if check:
            _refuse_beside_check(request, speed=speed, report=report, as_csv=as_csv)
            return _checked(request, as_json=as_json)
        return _played(request, speed, report, as_json=as_json, as_csv=as_csv)


def _model(slippage: int | None, rejects: float | None, latency: float | None, seed: int) -> FillModel | None:
    """Return the model that the options ask for, None where they ask for none."""
    from datetime import timedelta

    from copytrader.paper import FillModel

    if slippage is None and rejects is None and latency is None:
        return None
    return FillModel(slippage or 0, rejects or 0.0, timedelta(milliseconds=latency or 0), seed)


def _refuse_beside_check(request: Request, *, speed: float | None, report: Path | None, as_csv: bool) -> None:
    given = {
        "--set": request.changes,
        "--add-follower": request.added,
        "--slippage-ticks, --reject-rate and --latency-ms": request.model,
        "--speed": speed,
        "--report": report,
        "--until ORDER": request.until_order,
    }
    if as_csv:
        raise Failure("--check has one verdict and no rows: use --json in place of --csv", code=ExitCode.USAGE)
    for option, value in given.items():
        if value:
            raise Failure(f"--check plays what was recorded, as it was: leave {option} out", code=ExitCode.USAGE)


# --- Proving -----------------------------------------------------------------------------


def _checked(request: Request, *, as_json: bool) -> ExitCode:
    from copytrader import render
    from copytrader.replay.request import proved

    with _progress("checking") as progress:
        verdict = proved(request, progress)
    if as_json:
        render.document(verdict.document())
    else:
        _show_verdict(verdict)
    return ExitCode.FINE if verdict.identical else ExitCode.FINDINGS


def _show_verdict(verdict: Verdict) -> None:
    from copytrader import render

    compared = f"{verdict.events:,} events, {verdict.decisions:,} decisions"
    if verdict.first_difference is None:
        render.line(f"{compared}: the engine decides what was recorded, byte for byte")
        return
    for text in _difference(verdict.first_difference):
        render.line(text)
    render.line(f"before it {compared} are the same")


def _difference(found: Difference) -> Iterator[str]:
    from copytrader.replay.scene import lines

    where = "the journal" if found.seq is None else f"fact {found.seq}"
    yield f"first difference at {where}: {found.what}"
    if found.event_seq is not None:
        yield f"  it follows from fact {found.event_seq}, {found.event} at {found.at}"
    for name, words in (("recorded", found.recorded), ("decided now", found.decided)):
        if words is not None:
            yield f"  {name}:"
            yield from lines(words, "    ")
    if found.fields:
        yield "  what differs:"
        yield from (f"    {text}" for text in found.fields)
    if found.state is not None:
        yield "  the state around it:"
        yield from lines(found.state, "    ")


# --- Playing -----------------------------------------------------------------------------


def _played(request: Request, speed: float | None, report: Path | None, *, as_json: bool, as_csv: bool) -> ExitCode:
    from copytrader import render
    from copytrader.cli.pages import write_private
    from copytrader.replay.report import page
    from copytrader.replay.request import opened, refuse_report
    from copytrader.replay.summary import Played

    if report is not None:
        refuse_report(request, report)
    with opened(request) as replay:
        for warning in replay.warnings:
            render.notice(warning)
        state = _run(replay, request.until_order, speed)
        verdict = None
        if replay.prove is not None and request.until_order is None:
            with _progress("checking") as progress:
                verdict = replay.prove(progress)
        played = Played(replay.source, replay.tracks, replay.notes, verdict, state, replay.warnings, replay.passed_over)
    document = played.document()
    if report is not None:
        write_private(report, page(played, document))
        render.notice(f"{report} written")
    if as_json:
        render.document(document)
    elif as_csv:
        _show_csv(document)
    else:
        _show(played, document)
    return ExitCode.FINE if verdict is None or verdict.identical else ExitCode.FINDINGS


def _run(replay: Replay, until: str | None, speed: float | None) -> dict[str, object] | None:
    """Play to the end, or to the order asked for; return the state there."""
    from copytrader.replay.play import mentions
    from copytrader.replay.scene import around, leader_order_of

    shown, last, found = replay.tracks[-1], None, None
    with _watched(replay, speed) as (before, watch):
        for step in replay.steps(before):
            watch(step)
            last = step.moment if step.track is shown else last
            if until is not None and mentions(step.moment, until):
                found = step.moment.event.at, leader_order_of(step.moment.state, until) or until
                if step.track is shown:
                    break
    if until is None:
        return None
    if found is None or last is None:
        raise Failure(f"order {until} does not occur in {replay.source}", code=ExitCode.FAILED)
    at, leader_order_id = found
    return {"at": at, **around(last.state, leader_order_id)}


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr while the block runs, where somebody looks."""
    import sys

    if not sys.stderr.isatty():
        yield lambda _seq, _last: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        first: list[int] = []

        def show(seq: int, last: int) -> None:
            first[:] = first or [seq]
            if seq % 100 == 0 or seq == last:
                bar.update(task, completed=seq - first[0], total=max(last - first[0], 1))

        yield show


@contextmanager
def _watched(replay: Replay, speed: float | None) -> Iterator[tuple[Before, Callable[[Step], None]]]:
    """Return what is told of each event before it happens, and of each step: a bar, the live screen or plain lines."""
    import sys

    from copytrader.cli.guard import heed_sigterm
    from copytrader.display import Form, form_for
    from copytrader.replay.what_if import at_once

    heed_sigterm()
    if speed is None:
        with _progress("playing") as progress:
            yield at_once, lambda step: progress(step.seq, replay.last) if step.seq else None
    elif form_for(sys.stderr, plain=False, as_json=False) is Form.LIVE:
        with _screen(replay, speed) as told:
            yield told
    else:
        yield _lines(replay, speed)


def _lines(replay: Replay, speed: float) -> tuple[Before, Callable[[Step], None]]:
    from copytrader import narrate, render
    from copytrader.replay.watch import Pace, said

    render.notice(said(speed, on_paper=replay.on_paper))

    def watch(step: Step) -> None:
        if step.track is replay.tracks[-1]:
            event, decisions, state = step.moment
            for text in narrate.lines(event, decisions, state):
                render.notice(f"{event.at:%H:%M:%S} {text}")

    return Pace(speed, lambda: None).wait, watch


@contextmanager
def _screen(replay: Replay, speed: float) -> Iterator[tuple[Before, Callable[[Step], None]]]:
    import sys
    from contextlib import closing
    from datetime import datetime

    from copytrader.core.model import IST
    from copytrader.outlet import Outlet
    from copytrader.replay.watch import Pace, Theatre, said
    from copytrader.view import Screen, Watching

    track = replay.tracks[-1]
    theatre = Theatre(track.desk)
    watching = Watching(lambda: pace.now or datetime.now(IST))
    how = said(speed, on_paper=replay.on_paper)
    with closing(Outlet(sys.stderr)) as outlet, Screen(theatre, watching, outlet, dry_run=False, replay=how) as screen:
        pace = Pace(speed, screen.draw)

        def watch(step: Step) -> None:
            if step.track is track:
                event, decisions, state = step.moment
                theatre.take(event, state)
                watching.take(event, decisions, state)
                watching.sent.clear()  # how long deciding took is not recorded

        yield pace.wait, watch
        screen.draw()


# --- Results -----------------------------------------------------------------------------


def _show_csv(document: Mapping[str, object]) -> None:
    from copytrader import render
    from copytrader.replay.summary import order_rows

    rows = order_rows(document)
    render.rows(rows, [render.Column(key) for key in (rows[0] if rows else ())], render.Format.CSV)


def _show(played: Played, document: Mapping[str, object]) -> None:
    from copytrader import render
    from copytrader.replay.scene import lines
    from copytrader.replay.summary import ACCOUNTS, INSTRUMENTS, account_rows, instrument_rows

    if played.state is not None:
        for text in lines(played.state):
            render.line(text)
        render.line("")
    for rule in _list(document["changed_rules"]):
        render.line(f"what if {rule}")
    render.rows(account_rows(document), _columns(ACCOUNTS))
    render.line("")
    if traded := instrument_rows(document):
        render.rows(traded, _columns(INSTRUMENTS))
        render.line("")
    _show_orders(played, document)
    for note in _list(document["notes"])[len(played.warnings) :]:  # those were said at the start
        render.notice(str(note))
    if played.verdict is not None:
        _show_verdict(played.verdict)


def _columns(titles: Mapping[str, str]) -> list[Column]:
    from copytrader.render import Column

    return [Column(key, title) for key, title in titles.items()]


def _show_orders(played: Played, document: Mapping[str, object]) -> None:
    """Show the orders that differ; where there is nothing to compare with, all of them."""
    from copytrader import render
    from copytrader.render import Column
    from copytrader.replay.summary import TITLES, in_a_word, order_rows

    names = [track.name for track in played.tracks]
    rows = order_rows(document, only_differing=len(names) > 1)
    if not rows:
        render.line("no order differs" if len(names) > 1 else "no order was seen")
        return
    shown = [
        {
            "time": f"{_clock(row['at'])}",
            "order": row["leader_order_id"],
            "account": row["account"],
            "instrument": row["instrument"],
            "side": row["side"],
            **{name: in_a_word(row, name) for name in names},
        }
        for row in rows
    ]
    render.rows(shown, [*map(Column, list(shown[0])[:5]), *(Column(name, TITLES[name]) for name in names)])
    render.line("")


def _clock(at: object) -> str:
    from datetime import datetime

    assert isinstance(at, datetime)
    return f"{at:%H:%M:%S}"


def _list(value: object) -> Sequence[object]:
    assert isinstance(value, list)
    return value

"""`copytrader init`: a first configuration."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from copytrader.cli.options import ConfigPath
from copytrader.failure import ExitCode, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal
    from pathlib import Path

    from copytrader.config.writing import Answers, NewFollower

Leader = Annotated[str, typer.Option("--leader", metavar="CLIENT_ID", help="The leader's number at Dhan.")]
Followers = Annotated[
    list[str] | None,
    typer.Option("--follower", metavar="NAME=CLIENT_ID", help="A follower: your name for it, its number. Repeatable."),
]
Ratios = Annotated[
    list[str] | None,
    typer.Option(
        "--ratio", metavar="[NAME=]RATIO", help="Times the leader's lots, for one follower or all. Repeatable."
    ),
]
Segments = Annotated[
    list[str] | None, typer.Option("--segment", metavar="SEGMENT", help="Copy only this, e.g. NSE_FNO. Repeatable.")
]
Value = Annotated[int | None, typer.Option(min=1, help="Limit: rupees of one order.")]
OrderLots = Annotated[int | None, typer.Option(min=1, help="Limit: lots of one order.")]
PositionLots = Annotated[int | None, typer.Option(min=1, help="Limit: lots of one position.")]
Positions = Annotated[int | None, typer.Option(min=1, help="Limit: positions open at once.")]
Loss = Annotated[int | None, typer.Option(min=1, help="Limit: rupees lost in a day.")]
PerMinute = Annotated[int | None, typer.Option(min=1, help="Limit: entries in a minute.")]
Simulator = Annotated[str, typer.Option(metavar="URL", help="Lead it to `copytrader simulator` at this address.")]


def init(
    config: ConfigPath = None,
    leader: Leader = "",
    follower: Followers = None,
    ratio: Ratios = None,
    segment: Segments = None,
    max_order_value: Value = None,
    max_order_lots: OrderLots = None,
    max_position_lots: PositionLots = None,
    max_open_positions: Positions = None,
    max_daily_loss: Loss = None,
    max_orders_per_minute: PerMinute = None,
    simulator: Simulator = "",
) -> None:
    """Write a first configuration: asks what the options leave open, and never overwrites a file.

    With --leader and --follower nothing is asked.
    """
    import shlex
    import sys

    from copytrader.config.writing import PROPOSED, Answers, text, write

    path = _path(config)
    if path.exists():
        raise Failure(
            f"{path} exists already and is left as it is: move it away, or name another with --config",
            code=ExitCode.USAGE,
        )
    given = {
        "max_order_value": max_order_value,
        "max_order_lots": max_order_lots,
        "max_position_lots": max_position_lots,
        "max_open_positions": max_open_positions,
        "max_daily_loss": max_daily_loss,
        "max_orders_per_minute": max_orders_per_minute,
    }
    limits = dict(PROPOSED) | {key: value for key, value in given.items() if value is not None}
    if simulator and not re.match(r"https?://[^/]", simulator):
        raise Failure(
            f"--simulator {simulator}: must be the address it serves, such as http://127.0.0.1:8080",
            code=ExitCode.USAGE,
        )
    followers = _followers(follower or [], ratio or [])
    answers = Answers(leader, followers, limits, tuple(segment or ()), simulator)
    if not leader or not followers:
        if not sys.stdin.isatty():
            raise Failure(
                "give --leader CLIENT_ID and --follower NAME=CLIENT_ID, or run this at a terminal", code=ExitCode.USAGE
            )
        answers = _asked(answers)
    write(path, text(answers))
    _next(path, answers, "" if config is None else f" --config {shlex.quote(str(config))}")


def _path(config: Path | None) -> Path:
    import os
    from pathlib import Path

    from copytrader.config.sources import CONFIG, FILE_NAME

    return config or Path(os.environ.get(CONFIG) or FILE_NAME)


def _followers(given: Sequence[str], ratios: Sequence[str]) -> tuple[NewFollower, ...]:
    from copytrader.config.models import NAME
    from copytrader.config.writing import NewFollower

    pairs = [text.partition("=") for text in given]
    for (name, sign, client_id), text in zip(pairs, given, strict=True):
        if not (NAME.fullmatch(name) and name != "leader" and sign and client_id):
            raise Failure(
                f"--follower {text}: must be NAME=CLIENT_ID, e.g. asha=1000000002, in a name a-z, 0-9, _ and -",
                code=ExitCode.USAGE,
            )
    names = [name for name, _, _ in pairs]
    if len(set(names)) != len(names):
        raise Failure("two followers have the same name", code=ExitCode.USAGE)
    by_name = _ratios(ratios, names)
    return tuple(NewFollower(name, client_id, by_name[name]) for name, _, client_id in pairs)


def _ratios(given: Sequence[str], names: Sequence[str]) -> dict[str, Decimal]:
    from decimal import Decimal

    ratios = dict.fromkeys(names, Decimal(1))
    for text in sorted(given, key=lambda text: "=" in text):
        name, sign, value = text.rpartition("=")
        if sign and name not in ratios:
            raise Failure(f"--ratio {text}: there is no --follower {name}", code=ExitCode.USAGE)
        number = _number(value, f"--ratio {text}")
        ratios |= {name: number} if sign else dict.fromkeys(names, number)
    return ratios


def _number(text: str, where: str) -> Decimal:
    from decimal import Decimal

    from copytrader.config.models import PLAIN_NUMBER

    if not PLAIN_NUMBER.fullmatch(text.strip()):
        raise Failure(f"{where}: must be a number such as 0.5", code=ExitCode.USAGE)
    number = Decimal(text.strip())
    if not (number.is_finite() and 0 < number <= 1000):
        raise Failure(f"{where}: must be above 0 and at most 1000", code=ExitCode.USAGE)
    return number


# --- Asking -------------------------------------------------------------------------------


def _asked(answers: Answers) -> Answers:
    """Ask for what is open; an answer that cannot be is asked for again."""
    from dataclasses import replace

    from copytrader import render

    render.notice("Each account's number at Dhan stands in the app under Profile. Enter takes what is in brackets.")
    leader = answers.leader or _ask_id("client id of the leader, whose orders are copied")
    followers = list(answers.followers)
    while not followers or typer.confirm("another follower?", default=False, err=True):
        followers.append(_ask_follower(leader, followers))
    limits = dict(answers.limits)
    render.notice("Limits of each follower; they hold back entries, never exits, and can be changed in the file.")
    for key, words in (("max_order_lots", "lots of one order"), ("max_daily_loss", "rupees lost in a day")):
        limits[key] = typer.prompt(f"at most, {words}", default=limits[key], type=int, err=True)
    return replace(answers, leader=leader, followers=tuple(followers), limits=limits)


def _ask_follower(leader: str, others: Sequence[NewFollower]) -> NewFollower:
    from copytrader.config.models import NAME
    from copytrader.config.writing import NewFollower

    taken = [each.name for each in others]
    ids = {leader: "the leader"} | {each.client_id: each.name for each in others}
    while True:
        name = str(typer.prompt("a follower's name, as you call it (a-z, 0-9, _ and -)", err=True)).strip().lower()
        if NAME.fullmatch(name) and name != "leader" and name not in taken:
            break
        typer.echo("another name, please: a-z, 0-9, _ and - only, not `leader`, none twice", err=True)
    client_id = _ask_id(f"client id of {name}", ids)
    while True:
        try:
            ratio = _number(
                str(typer.prompt(f"times the leader's lots for {name}", default="1", err=True)), "the ratio"
            )
            return NewFollower(name, client_id, ratio)
        except Failure as failure:
            typer.echo(str(failure), err=True)


def _ask_id(prompt: str, taken: Mapping[str, str] | None = None) -> str:
    """Ask for an account's number, which no account that was named before has."""
    from copytrader.tokens import CLIENT_ID

    while True:
        answer = str(typer.prompt(prompt, err=True)).strip()
        owner = (taken or {}).get(answer)
        if owner is None and CLIENT_ID.fullmatch(answer) and answer.isdecimal():
            return answer
        what = "digits only, as in 1000000001" if owner is None else f"that is {owner}; each account has its own"
        typer.echo(f"another number, please: {what}", err=True)


def _next(path: Path, answers: Answers, chosen: str) -> None:
    """Say what comes now; `chosen` is how the file was named, which its commands need too."""
    from copytrader import render

    render.line(f"{path} is written, readable by you alone. Now:")
    steps = [
        (f"copytrader login{chosen}", "today's access token of each account"),
        (f"copytrader doctor{chosen}", "everything that could go wrong today"),
        (f"copytrader follow{chosen} --dry-run", "see what would be copied; nothing is sent"),
        (f"copytrader follow{chosen}", "copy"),
    ]
    width = max(len(command) for command, _ in steps) + 2
    for command, what in steps:
        render.line(f"  {command:{width}} {what}")
    who = ", ".join(each.name for each in answers.followers)
    render.line(f"Look the limits of {who} over before the last one: they are proposals.")

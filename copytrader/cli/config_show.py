"""`copytrader config`: the configuration as it is in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from copytrader.cli.options import AsCsv, AsJson, ConfigPath

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from copytrader.config import Config

app = typer.Typer(help="The configuration as it is in force.", rich_markup_mode=None, no_args_is_help=True)

HIDDEN = "**********"


@app.callback()
def config_group(ctx: typer.Context, config: ConfigPath = None) -> None:
    """Look at the configuration."""


@app.command()
def show(config: ConfigPath = None, as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """Show every value in force and where it came from; secrets are not shown."""
    from copytrader import render
    from copytrader.config import load

    form = render.Format.JSON if as_json else render.Format.CSV if as_csv else render.Format.TABLE
    rows = [{"key": key, "value": value, "origin": origin} for key, value, origin in values(load(config))]
    if form is render.Format.TABLE:
        rows = [row | {"value": _text(row["value"])} for row in rows]
    columns = [render.Column("key", is_whole=True), render.Column("value"), render.Column("origin")]
    render.rows(rows, columns, form)


def _text(value: object) -> str:
    """Write any value as text, so that the column stands left."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def values(config: Config) -> Iterator[tuple[str, object, str]]:
    """Yield each key, its value (a secret only as being there or not) and the place that it came from."""
    yield "journal", config.journal, config.origin("journal")
    yield "log", config.log, config.origin("log")
    sections: dict[str, BaseModel] = {
        "dhan": config.dhan,
        "leader": config.leader,
        "copy": config.copy_rules,
        "alerts": config.alerts,
    }
    sections |= {f"followers.{name}": section for name, section in config.followers.items()}
    for name, section in sections.items():
        yield from _section(config, name, section)


def _section(config: Config, path: str, section: BaseModel) -> Iterator[tuple[str, object, str]]:
    from pydantic import BaseModel

    for key in type(section).model_fields:
        value, name = getattr(section, key), f"{path}.{key}"
        if isinstance(value, BaseModel):
            yield from _section(config, name, value)
        elif key == "access_token" and value is None:
            yield name, *_stored(path, config)
        else:
            yield name, _shown(key, value), config.origin(name)


def _stored(path: str, config: Config) -> tuple[object, str]:
    """A token that is not configured may be one that `copytrader login` stored."""
    from copytrader import tokens
    from copytrader.failure import Failure

    client_id = config.account(path.removeprefix("followers.")).client_id
    try:
        stored = tokens.stored_token(client_id)
    except Failure:
        return "cannot be read", "copytrader login"
    if stored is None:
        return None, "default"
    return HIDDEN, f"copytrader login, until {stored.expires_at:%Y-%m-%d %H:%M}"


def _shown(key: str, value: object) -> object:
    from pydantic import SecretStr

    from copytrader.config.models import SECRET_KEYS

    if key not in SECRET_KEYS:
        return value
    if isinstance(value, tuple):
        return [HIDDEN] * len(value)
    return HIDDEN if isinstance(value, SecretStr) and value.get_secret_value() else ""

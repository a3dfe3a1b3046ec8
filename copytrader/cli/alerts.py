"""`copytrader alerts`: whether alerts reach the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from copytrader.cli.options import AsJson, ConfigPath
from copytrader.failure import ExitCode, Failure

if TYPE_CHECKING:
    from copytrader.alerts import Send

app = typer.Typer(help="Alerts to your phone or mailbox.", rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def alerts(ctx: typer.Context, config: ConfigPath = None) -> None:
    """Send alerts; what is sent when stands in the configuration, under [alerts]."""


@app.command("test")
def send_test(config: ConfigPath = None, as_json: AsJson = False) -> ExitCode:
    """Send a test alert to each address of the configuration and say which took it."""
    from concurrent.futures import ThreadPoolExecutor

    from copytrader import alerts as sending
    from copytrader import render
    from copytrader.config import load
    from copytrader.core.facts import Level
    from copytrader.login import now

    settings = load(config)
    urls = settings.alerts.urls
    if not urls:
        raise Failure(
            'alerts.urls is empty: add addresses such as "tgram://token/chat" or "ntfys://topic" '
            f"under [alerts] in {settings.path}",
            code=ExitCode.USAGE,
        )
    text = f"{now():%H:%M} a test: alerts of copytrader reach you here"

    named = [(sending.named(url, number), sending.by_apprise(url)) for number, url in enumerate(urls, 1)]

    def sent(name: str, send: Send | None) -> dict[str, object]:
        if send is None:
            return {"address": name, "sent": False, "detail": "no address that apprise knows"}
        taken = send(text, Level.INFO)
        detail = "" if taken else "not taken: check the address, and the network"
        return {"address": name, "sent": taken, "detail": detail}

    with ThreadPoolExecutor(len(urls)) as pool:
        rows = list(pool.map(lambda each: sent(*each), named))
    if as_json:
        render.document(rows)
    else:
        for row in rows:
            render.line(f"{row['address']}: {row['detail'] or 'sent'}")
    return ExitCode.FINE if all(row["sent"] for row in rows) else ExitCode.FAILED

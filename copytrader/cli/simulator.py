"""`copytrader simulator`: the stand-in for Dhan's servers, alone."""

from __future__ import annotations

from typing import Annotated

import typer

from copytrader.cli.options import AsJson

Host = Annotated[str, typer.Option(help="A loopback address to serve on.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="The port to serve on; 0 takes a free one.")]
Scenario = Annotated[
    str, typer.Option(help="The world to begin with: options-desk has a leader, followers, instruments; empty nothing.")
]
Followers = Annotated[int, typer.Option(min=0, max=1_000, help="How many followers the options-desk has.")]


def simulator(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    scenario: Scenario = "options-desk",
    followers: Followers = 2,
    as_json: AsJson = False,
) -> None:
    """Serve a local Dhan until Ctrl-C.

    Prints the [dhan] section that leads a configuration to it.
    """
    import os

    from copytrader import render
    from copytrader.failure import ExitCode, Failure
    from copytrader.simulator.server import run

    def ready(url: str) -> None:
        addresses = _addresses(url)
        if as_json:
            render.document(addresses)
        else:
            render.line("[dhan]")
            for key, address in addresses.items():
                render.line(f'{key} = "{address}"')
        render.flush()
        render.notice(f"serving {scenario} on {url}; Ctrl-C ends it")

    try:
        run(host, port, scenario, ready, followers)
    except ValueError as error:
        raise Failure(str(error), code=ExitCode.USAGE) from None
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise Failure(
            f"--port {port} of {host} cannot be served on: {why}; name another, or 0 for a free one"
        ) from None


def _addresses(url: str) -> dict[str, str]:
    """Return what `[dhan]` has to hold to talk to the simulator at this address."""
    return {
        "api_url": f"{url}/v2",
        "auth_url": f"{url}/auth",
        "order_update_url": url.replace("http://", "ws://", 1),
        "instruments_url": f"{url}/api-data/api-scrip-master-detailed.csv",
    }

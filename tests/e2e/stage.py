"""The whole product over real sockets: a simulator in this process, the real command in another.

The simulator's book and ledger are what the tests judge by.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from copytrader.core.model import IST
from copytrader.simulator import LEADER_ID, Exchange, client_ids, options_desk, token_of
from copytrader.simulator.model import BookOrder
from copytrader.simulator.server import base_url, serve
from copytrader.simulator.trader import AppTrader

ROOT = Path(__file__).parents[2]
CAPTURES = Path(os.environ.get("COPYTRADER_CAPTURES") or ROOT.parent / "shared")
NAMES = ("asha", "ravi", "mira", "omar", "lata")
D = Decimal
PATIENCE = 60.0
"""Seconds for what takes one on an idle machine."""
LONGEST_SCENE = 150
"""Seconds that a scene may last on a loaded machine."""


@dataclass
class Program:
    """One run of the command, with what it has said so far."""

    process: asyncio.subprocess.Process
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    called: str = ""
    reading: list[asyncio.Task[None]] = field(default_factory=list)

    async def says(self, pattern: str, seconds: float = 15) -> str:
        """Wait for a line on stderr that matches."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self.err:
                if re.search(pattern, line):
                    return line
            if self.process.returncode is not None:
                await asyncio.gather(*self.reading)
                break
            await asyncio.sleep(0.01)
        for line in self.err:
            if re.search(pattern, line):
                return line
        raise AssertionError(f"never said {pattern!r}; code {self.process.returncode}; said: {self.err[-30:]}")

    async def ends(self, seconds: float = 15) -> int:
        code = await asyncio.wait_for(self.process.wait(), seconds)
        await asyncio.gather(*self.reading)
        return code

    async def stops(self) -> int:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.ends()

    async def killed(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.ends()


def _let_midnight_pass() -> None:
    """A scene that begins just before the Indian midnight would end on another trade date."""
    now = datetime.now(IST)
    left = (datetime.combine(now + timedelta(days=1), datetime.min.time(), IST) - now).total_seconds()
    if left < LONGEST_SCENE:
        time.sleep(left + 1)


class Stage:
    """A simulated Dhan with a leader and followers, a configuration, and the commands run on it."""

    def __init__(
        self,
        folder: Path,
        ratios: Sequence[str] = ("0.5",),
        *,
        copy: str = "",
        follower: str = "",
        limits: str = "unlimited = true",
        exchange: Exchange | None = None,
        prepare: Callable[[Exchange], None] | None = None,
        env: dict[str, str] | None = None,
        program: Sequence[str] = ("-m", "copytrader"),
    ) -> None:
        _let_midnight_pass()
        self.folder = folder
        self.names = NAMES[: len(ratios)]
        self.ratios = ratios
        self.exchange = exchange or options_desk(followers=len(ratios))
        if prepare is not None:
            prepare(self.exchange)
        self.ids = dict(zip(("leader", *self.names), client_ids(len(ratios)), strict=True))
        self.leader: AppTrader = self.exchange.leader(LEADER_ID)
        self.extra = env or {}
        self.program = program
        self._copy, self._follower, self._limits = copy, follower, limits
        self._programs: list[Program] = []
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._runner = await serve("127.0.0.1", 0, self.exchange)
        self.url = base_url(self._runner)
        self.config = self.folder / "copytrader.toml"
        self.config.write_text(self._text())
        self.config.chmod(0o600)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in self._programs:
            await program.killed()
        assert self._runner is not None
        await self._runner.cleanup()
        if error is None:
            assert self.leaks() == [], "a secret got out"

    def _text(self) -> str:
        sections = [
            f'[dhan]\napi_url = "{self.url}/v2"\nauth_url = "{self.url}/auth"',
            f'order_update_url = "{self.url.replace("http", "ws", 1)}"',
            f'instruments_url = "{self.url}/api-data/api-scrip-master-detailed.csv"',
            f'[leader]\nclient_id = "{LEADER_ID}"\naccess_token = "{token_of(LEADER_ID)}"',
            f'[copy]\nmarket_hours = "off"\n{self._copy}',
        ]
        for name, ratio in zip(self.names, self.ratios, strict=True):
            sections.append(f'[followers.{name}]\nclient_id = "{self.ids[name]}"')
            sections.append(f'access_token = "{token_of(self.ids[name])}"\n{self._follower}')
            sections.append(f"[followers.{name}.sizing]\nratio = {ratio}")
            sections.append(f"[followers.{name}.limits]\n{self._limits}")
        return "\n".join(sections) + "\n"

    async def runs(self, *arguments: str, env: dict[str, str] | None = None) -> Program:
        """Start the command with these arguments."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self.program,
            *arguments,
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "COPYTRADER_STATE_DIR": str(self.folder / "state"),
                "COPYTRADER_CONFIG": str(self.config),
                **self.extra,
                **(env or {}),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            stdin=asyncio.subprocess.DEVNULL,
        )
        program = Program(process, called=_called(process.pid))
        assert process.stdout is not None and process.stderr is not None
        for stream, lines in ((process.stdout, program.out), (process.stderr, program.err)):
            program.reading.append(asyncio.ensure_future(_collect(stream, lines)))
        self._programs.append(program)
        return program

    @property
    def secrets(self) -> list[str]:
        """What must be seen nowhere: every token and PIN of every account, past and present."""
        accounts = self.exchange.accounts.values()
        return [
            secret
            for account in accounts
            for secret in (account.access_token, *account.dead_tokens, account.totp_secret)
            if secret
        ]

    def leaks(self) -> list[str]:
        """Where a secret got to: what the programs said, how they were called, what they wrote."""
        said = {
            f"{name} of program {number}": "\n".join(text).encode()
            for number, program in enumerate(self._programs)
            for name, text in (("stdout", program.out), ("stderr", program.err), ("command line", [program.called]))
        }
        wrote = {
            str(path): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and path.suffix != ".toml" and path.parent.name != "tokens"
        }
        wanted = [secret.encode() for secret in self.secrets]
        return [where for where, text in (said | wrote).items() if any(secret in text for secret in wanted)]

    async def follows(self, *arguments: str, env: dict[str, str] | None = None) -> Program:
        """Start follow and wait until it says that it is copying."""
        program = await self.runs("follow", *arguments, env=env)
        await program.says("^copying", PATIENCE)
        return program

    async def facts(self, *arguments: str) -> list[dict[str, Any]]:
        """What the audit lists."""
        program = await self.runs("audit", "--json", *arguments)
        assert await program.ends() == 0, program.err
        found: list[dict[str, Any]] = json.loads("\n".join(program.out))
        return found

    async def until(self, condition: Callable[[], object], seconds: float = 10, what: str = "") -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                said = [line for program in self._programs for line in program.err[-15:]]
                raise AssertionError(f"not within {seconds} s: {what}; {said}")
            await asyncio.sleep(0.01)

    async def settles(self, seconds: float = 0.4) -> None:
        """Wait until the ledger has been quiet for a while."""
        before, since = -1, time.monotonic()
        while time.monotonic() - since < seconds:
            now = sum(1 for row in self.exchange.ledger if row.method != "GET")
            if now != before:
                before, since = now, time.monotonic()
            await asyncio.sleep(0.02)

    def orders(self, name: str = "asha") -> list[BookOrder]:
        """An account's orders that bear our prefix, oldest first."""
        book = self.exchange.book(self.ids[name])
        return [order for order in book if order.correlation_id.startswith("ct1-")]

    def copied(self, name: str = "asha", security_id: str = "") -> int:
        """What an account holds from copying, by the simulator's book."""
        return sum(
            order.filled * (1 if order.side == "BUY" else -1)
            for order in self.orders(name)
            if security_id in ("", order.instrument.security_id)
        )

    def requests(self, name: str = "asha") -> list[tuple[str, str]]:
        """The order requests that reached the simulator."""
        return [
            (row.method, row.path)
            for row in self.exchange.ledger
            if row.kind == "request" and row.client_id == self.ids[name] and row.method != "GET"
        ]


def _called(pid: int) -> str:
    """What everybody on the machine can see of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


async def _collect(stream: asyncio.StreamReader, lines: list[str]) -> None:
    async for line in stream:
        lines.append(line.decode(errors="replace").rstrip("\n"))

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from copytrader import alerts
from copytrader.alerts import FOLD_SECONDS, MOST_KEPT, MOST_WAITING, Folding, Herald, Line
from copytrader.cli import app
from copytrader.core.facts import Alert, Level
from copytrader.core.model import IST

WriteConfig = Callable[..., Path]
AT = datetime(2026, 11, 24, 10, 30, tzinfo=IST)
URL = SecretStr("json://user:hush-hush@127.0.0.1:9/path")


def until(condition: Callable[[], object], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.005)


class Mailbox:
    """An address that takes what it is sent, unless told otherwise."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.levels: list[Level] = []
        self.takes = True
        self.open = threading.Event()
        self.open.set()

    def __call__(self, text: str, level: Level) -> bool:
        self.open.wait(10)
        if self.takes:
            self.texts.append(text)
            self.levels.append(level)
        return self.takes


def herald(*boxes: Mailbox, least: Level = Level.WARNING, trouble: list[str] | None = None) -> Herald:
    waiting = iter(boxes)
    said = trouble if trouble is not None else []
    return Herald([URL] * len(boxes), least, said.append, lambda _url: next(waiting))


def warning(text: str, key: str = "") -> Alert:
    return Alert(Level.WARNING, text, None, key)


# --- folding ---------------------------------------------------------------------------


def texts(lines: Sequence[Line]) -> list[str]:
    return [line.text for line in lines]


def test_an_alert_that_repeats_is_told_once_and_counted() -> None:
    folding = Folding()

    assert texts(folding.take(Line("loss", "loss 1"), 0)) == ["loss 1"]
    assert texts(folding.take(Line("loss", "loss 2"), 10)) == []
    assert texts(folding.take(Line("loss", "loss 3"), 20)) == []
    assert texts(folding.take(Line("other", "other"), 20)) == ["other"]
    assert texts(folding.due(FOLD_SECONDS - 1)) == []
    assert texts(folding.due(FOLD_SECONDS)) == ["loss 3 (2 times more within five minutes)"]
    assert texts(folding.due(2 * FOLD_SECONDS + 1)) == []


def test_an_alert_that_has_become_more_serious_is_told_at_once() -> None:
    folding = Folding()
    folding.take(Line("x", "it may be", Level.WARNING), 0)

    assert texts(folding.take(Line("x", "it is", Level.CRITICAL), 1)) == ["it is"]
    assert texts(folding.take(Line("x", "it may be", Level.WARNING), 2)) == []


def test_an_alert_that_goes_on_is_told_every_five_minutes() -> None:
    folding = Folding()
    seconds = range(0, 901, 10)
    told = [line for second in seconds for line in (*folding.due(second), *folding.take(Line("x", "x"), second))]

    assert (
        texts(told) == ["x"] + ["x (29 times more within five minutes)"] + ["x (30 times more within five minutes)"] * 2
    )


def test_an_alert_that_comes_back_later_is_told_anew() -> None:
    folding = Folding()
    folding.take(Line("x", "x"), 0)

    assert folding.next_due == FOLD_SECONDS
    assert texts(folding.take(Line("x", "x"), FOLD_SECONDS)) == ["x"]


def test_nothing_counted_is_lost_at_the_end() -> None:
    folding = Folding()
    for _ in range(2):
        folding.take(Line("x", "x"), 0)

    assert texts(folding.rest()) == ["x (once more within five minutes)"]
    assert folding.next_due is None


# --- sending ---------------------------------------------------------------------------


def test_alerts_of_the_level_wanted_reach_every_address_with_their_time() -> None:
    one, two = Mailbox(), Mailbox()
    telling = herald(one, two)
    telling.tell(Alert(Level.INFO, "small"), AT)
    telling.tell(warning("big"), AT)
    telling.say("the day")
    telling.close()

    for box in (one, two):
        assert "\n".join(box.texts) == "10:30 WARNING: big\nthe day"


def test_what_is_said_of_another_account_is_no_repeat() -> None:
    box = Mailbox()
    telling = herald(box)
    for name in ("asha", "ravi", "ravi"):
        telling.tell(Alert(Level.CRITICAL, f"{name}: holds 300 though the leader is out", name, "sweep-NIFTY"), AT)
    telling.close()

    assert "\n".join(box.texts).splitlines() == [
        "10:30 CRITICAL: asha: holds 300 though the leader is out",
        "10:30 CRITICAL: ravi: holds 300 though the leader is out",
        "10:30 CRITICAL: ravi: holds 300 though the leader is out (once more within five minutes)",
    ]


def test_a_sender_that_stands_still_holds_up_nobody() -> None:
    dead, alive = Mailbox(), Mailbox()
    dead.open.clear()
    telling = herald(dead, alive)
    started = time.perf_counter()
    for number in range(10_000):
        telling.tell(warning(f"{number}"), AT)
    assert time.perf_counter() - started < 2
    until(lambda: alive.texts)
    started = time.perf_counter()
    telling.close(0.2)
    assert time.perf_counter() - started < 1
    dead.open.set()


def test_what_did_not_fit_is_counted() -> None:
    box = Mailbox()
    box.open.clear()
    telling = herald(box)
    telling.tell(warning("first"), AT)
    time.sleep(0.1)
    for number in range(MOST_WAITING + 7):
        telling.tell(warning(f"{number}"), AT)
    box.open.set()
    until(lambda: len(box.texts) == 2)

    assert (
        box.texts[1].splitlines()[0]
        == f"{7 + MOST_WAITING - MOST_KEPT} alerts are missing here: look at `copytrader audit`"
    )
    assert len(box.texts[1].splitlines()) == 1 + MOST_KEPT
    telling.close()


def test_an_address_that_takes_nothing_gets_it_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "FIRST_PAUSE", 0.05)
    box, trouble = Mailbox(), list[str]()
    box.takes = False
    telling = herald(box, trouble=trouble)
    telling.tell(warning("one"), AT)
    until(lambda: trouble)
    telling.tell(warning("two"), AT)
    time.sleep(0.3)
    box.takes = True
    until(lambda: box.texts)
    telling.close()

    assert box.texts == ["10:30 WARNING: one\n10:30 WARNING: two"]
    assert trouble == ["alerts.urls number 1 (json) does not take alerts: they are kept and sent again"]


def test_an_unknown_address_is_said_without_being_shown() -> None:
    trouble: list[str] = []
    telling = Herald([SecretStr("carrier-pigeon://hush-hush")], trouble=trouble.append)
    telling.tell(warning("x"), AT)
    telling.close()

    assert trouble == ["alerts.urls number 1 is no address that can be sent to: alerts do not go there"]


# --- through the library, to a server ---------------------------------------------------


@contextmanager
def server(status: int = 200, location: str = "") -> Iterator[tuple[str, list[dict[str, str]]]]:
    got: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"json://127.0.0.1:{listening.server_port}/hush-hush", got
        listening.shutdown()


def test_an_alert_arrives() -> None:
    with server() as (url, got):
        telling = Herald([SecretStr(url)])
        telling.tell(warning("*asha*: <b>2 & 3</b>"), AT)
        telling.close()

    assert [(each["title"], each["message"]) for each in got] == [("copytrader", "10:30 WARNING: *asha*: <b>2 & 3</b>")]


def test_a_message_is_as_serious_as_the_most_serious_line_in_it() -> None:
    box = Mailbox()
    box.open.clear()
    telling = herald(box)
    telling.say("the day")
    time.sleep(0.1)
    for level in (Level.CRITICAL, Level.WARNING):
        telling.tell(Alert(level, f"it is {level}"), AT)
    box.open.set()
    telling.close()

    assert box.levels == [Level.INFO, Level.CRITICAL]


@pytest.mark.parametrize(
    ("level", "kind"), [(Level.INFO, "info"), (Level.WARNING, "warning"), (Level.CRITICAL, "failure")]
)
def test_an_address_is_told_how_serious_a_message_is(level: Level, kind: str) -> None:
    with server() as (url, got):
        telling = Herald([SecretStr(url)], Level.INFO)
        telling.tell(Alert(level, "x"), AT)
        telling.close()

    assert [each["type"] for each in got] == [kind]


def test_an_alert_is_not_taken_elsewhere_by_its_address() -> None:
    with server() as (url, elsewhere), server(307, url.replace("json", "http")) as (moved, got):
        send = alerts.by_apprise(SecretStr(moved))
        assert send is not None
        assert not send("x", Level.WARNING)

    assert (len(got), elsewhere) == (1, [])


def test_a_refusing_server_shows_nothing_of_the_address(capfd: pytest.CaptureFixture[str]) -> None:
    with server(500) as (url, _):
        send = alerts.by_apprise(SecretStr(url))
        assert send is not None
        assert not send("x", Level.WARNING)

    captured = capfd.readouterr()
    assert "hush-hush" not in captured.out + captured.err


def test_the_test_command_tells_which_address_took_it(write_config: WriteConfig) -> None:
    with server() as (url, got), server(403) as (refusing, _):
        path = write_config(f'[alerts]\nurls = ["{url}", "{refusing}", "nonsense://x"]')
        done = CliRunner().invoke(app, ["alerts", "test", "--config", str(path)])
        as_json = CliRunner().invoke(app, ["alerts", "test", "--config", str(path), "--json"])

    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "alerts.urls number 1 (json): sent",
        "alerts.urls number 2 (json): not taken: check the address, and the network",
        "alerts.urls number 3 (nonsense): no address that apprise knows",
    ]
    assert "hush-hush" not in done.output + as_json.output
    assert [row["sent"] for row in json.loads(as_json.stdout)] == [True, False, False]
    assert "a test: alerts of copytrader reach you here" in got[0]["message"]


def test_the_test_command_without_addresses_says_what_to_write(write_config: WriteConfig) -> None:
    done = CliRunner().invoke(app, ["alerts", "test", "--config", str(write_config())])

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("alerts.urls is empty: add addresses such as ")

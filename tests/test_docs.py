"""What the pages say is so: their commands run, their examples load, their lists are complete."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from copytrader.cli.simulator import simulator as simulator_command
from copytrader.config import load
from copytrader.core.model import SkipReason
from copytrader.demo import write_config
from copytrader.failure import ExitCode
from tests.core.mutations import MUTATIONS
from tests.core.play import Play
from tests.simulation.mutations import RULES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
GENERATE = [sys.executable, "-m", "typer", "copytrader.cli", "utils", "docs", "--name", "copytrader"]

NOT_RUN = {
    "python3 -m venv": ".ci/run runs both commands of the README, each in a clone of its own",
    ". .venv/bin/activate": ".ci/run does it in the clone where it ran the README's first command",
    "git pull": ".ci/run runs what follows it in a clone, as the README has it",
    "copytrader login": "asks a person for a PIN and a one-time password; its own tests answer",
}
"""How a block begins that no test runs here, and why."""
SIMULATOR = "http://127.0.0.1:8080"
"""Where the simulator stands on the pages; a block that names it gets one of its own."""

# The command as a shell finds it; what would run until Ctrl-C gets one after a while.
COMMAND = """\
#!{python}
import signal, subprocess, sys
process = subprocess.Popen([sys.executable, "-m", "copytrader", *sys.argv[1:]])
if {{"follow", "simulator"}} & set(sys.argv) and "--help" not in sys.argv:
    try:
        process.wait(12)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
sys.exit(process.wait())
"""


@dataclass(frozen=True, slots=True)
class Block:
    page: Path
    number: int
    language: str
    text: str

    @property
    def is_command(self) -> bool:
        return self.language in ("sh", "console") or (not self.language and self.text.startswith("copytrader "))

    def __str__(self) -> str:
        return f"{self.page.name}-{self.number}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        found = re.finditer(r"(?ms)^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"))
        for number, match in enumerate(found, 1):
            yield Block(page, number, match[1], match[2])


BLOCKS = list(blocks())
COMMANDS = [block for block in BLOCKS if block.is_command and block.page.name != "commands.md"]


def parametrized(chosen: list[Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", [pytest.param(block, id=str(block)) for block in chosen])


# --- the desk at which the pages' commands run -----------------------------------------------


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment in which `copytrader` is a command and the configuration leads to a simulator of its own."""
    folder = tmp_path_factory.mktemp("desk")
    program = folder / "bin" / "copytrader"
    program.parent.mkdir()
    program.write_text(COMMAND.format(python=sys.executable))
    program.chmod(0o700)
    env = {name: value for name, value in os.environ.items() if not name.startswith("COPYTRADER_")} | {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
        "COPYTRADER_STATE_DIR": str(folder / "state"),
    }
    with simulator(env) as url:
        env["COPYTRADER_CONFIG"] = str(write_config(folder, url))
        subprocess.run([program, "follow"], check=True, env=env, capture_output=True, timeout=60)
        yield env


@contextlib.contextmanager
def simulator(env: dict[str, str]) -> Iterator[str]:
    arguments = [sys.executable, "-m", "copytrader", "simulator", "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env) as server:
        assert server.stderr is not None
        try:
            yield server.stderr.readline().split(" on ")[1].split(";")[0]
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader of the pages stands: beside the examples."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


def played() -> Iterator[tuple[list[int], list[int]]]:
    """The leader's lots and the follower's, as the page has them."""
    text = (ROOT / "docs" / "how-copying-decides.md").read_text(encoding="utf-8").split("<!-- played -->")[1]
    for line in text.split("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and re.fullmatch(r"[-+\d ]+\d", cells[1]):
            yield [int(lots) for lots in cells[1].split()], [int(lots) for lots in cells[2].split()]


@pytest.mark.parametrize(("leader", "follower"), list(played()))
def test_the_sizes_in_the_tables_are_those_that_are_copied(leader: list[int], follower: list[int]) -> None:
    play, before = Play(), 0
    for number, (lots, wanted) in enumerate(zip(leader, follower, strict=True)):
        play.trades(f"L{number}", lots)
        assert play.lots() - before == wanted
        before = play.lots()


@parametrized(COMMANDS)
def test_the_commands_of_the_pages_run(block: Block, env: dict[str, str], folder: Path) -> None:
    if any(block.text.startswith(beginning) for beginning in NOT_RUN):
        pytest.skip(next(reason for beginning, reason in NOT_RUN.items() if block.text.startswith(beginning)))
    text = re.sub(r"(?m)^\$ ", "", block.text)
    if SIMULATOR in text:
        env = env | {"COPYTRADER_STATE_DIR": str(folder / "state")}
        with simulator(env) as url:
            done = run(text.replace(SIMULATOR, url), env, folder)
    else:
        done = run(text, env, folder)

    assert done.returncode == 0, (done.stdout[-500:], done.stderr[-2000:])
    assert "Traceback" not in done.stderr


def run(text: str, env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
    )


def test_the_simulator_stands_where_the_pages_say() -> None:
    default = inspect.signature(simulator_command).parameters
    address = f"{default['host'].default}:{default['port'].default}"
    (section,) = (block.text for block in BLOCKS if block.page.name == "simulator.md" and block.language == "toml")

    assert f"http://{address}" == SIMULATOR
    assert all(address in written for written in tomllib.loads(section)["dhan"].values())


def test_each_block_that_is_not_run_is_still_there() -> None:
    for beginning in NOT_RUN:
        assert any(block.text.startswith(beginning) for block in COMMANDS), beginning


@parametrized([block for block in BLOCKS if block.language == "python"])
def test_the_programs_of_the_pages_run(block: Block, env: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-"], input=block.text, check=False, capture_output=True, text=True, timeout=60, env=env
    )

    assert done.returncode == 0, done.stderr


@parametrized([block for block in BLOCKS if block.language == "sql"])
def test_the_queries_of_the_pages_run_on_a_journal(block: Block, env: dict[str, str]) -> None:
    journal = Path(env["COPYTRADER_CONFIG"]).with_name("copytrader.db")
    with contextlib.closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute(block.text).fetchall()


@parametrized([block for block in BLOCKS if block.language == "toml"])
def test_the_toml_of_the_pages_is_toml(block: Block) -> None:
    assert tomllib.loads(block.text)


# --- examples ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_configuration_without_a_secret(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copytrader.toml"
    shutil.copy(path, copy)
    copy.chmod(0o644)

    config = load(copy, {})

    config.check_for_follow()
    assert not config.dhan.is_simulated
    assert config.leader.access_token is None
    assert all(follower.access_token is None for follower in config.followers.values())
    assert len([line for line in path.read_text().splitlines() if "#" in line]) >= 5


# --- what the pages list -------------------------------------------------------------------------


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    done = subprocess.run(GENERATE, check=True, capture_output=True, text=True, timeout=60, cwd=ROOT)

    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    again = " ".join(["python", *GENERATE[1:], "--output", "docs/commands.md"])
    assert written.rstrip() == done.stdout.rstrip(), f"write it anew: {again}"


def test_the_daily_routine_has_every_exit_code() -> None:
    page = (ROOT / "docs" / "daily-routine.md").read_text(encoding="utf-8").partition("## Exit codes")[2]

    assert [int(code) for code in re.findall(r"(?m)^\| (\d) \|", page)] == [*ExitCode]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


def anchors(page: Path) -> set[str]:
    """The headings of a page as links spell them."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pages_are_a_site_without_a_broken_link(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    built = {path.parent.name for path in (tmp_path / "site").glob("*/index.html")}
    assert {page.stem for page in PAGES} - {"README", "index"} <= built


def test_the_copier_runs_inside_another_program(env: dict[str, str]) -> None:
    command = [sys.executable, str(ROOT / "examples" / "embed.py"), env["COPYTRADER_CONFIG"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as program:
        assert program.stdout is not None
        for line in program.stdout:
            if line.startswith("copying "):
                break
        program.send_signal(signal.SIGINT)
        assert program.wait(20) == 0
    assert "dry run: nothing is sent" in line


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_the_window_in_tmux_outlives_follow(tmp_path: Path) -> None:
    program = tmp_path / ".venv/bin/copytrader"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexit 4\n")
    program.chmod(0o700)
    tmux = f"tmux -L copytrader-{os.getpid()} -f /dev/null"
    (start,) = (line for block in BLOCKS for line in block.text.splitlines() if line.startswith("tmux new-session"))
    look = f"{tmux} list-panes -a -F '#{{window_name}} #{{pane_dead}}'"  # it does not always learn the exit status
    try:
        run(start.replace("tmux", tmux, 1), dict(os.environ), tmp_path)
        for _ in range(50):
            seen = run(look, dict(os.environ), tmp_path).stdout.split()
            if seen[1:] == ["1"]:
                break
            time.sleep(0.1)
    finally:
        run(f"{tmux} kill-server", dict(os.environ), tmp_path)

    assert seen == ["follow", "1"]


def test_the_unit_of_systemd_starts_what_the_readme_installs() -> None:
    unit = (ROOT / "examples" / "copytrader.service").read_text(encoding="utf-8")
    (folder,) = re.findall(r"(?m)^WorkingDirectory=(.*)$", unit)
    (program,) = re.findall(r"(?m)^ExecStart=(\S+)", unit)

    assert program == f"{folder}/.venv/bin/copytrader"
    assert ".venv/bin/copytrader demo" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"`{folder.replace('%h', '~')}`" in (ROOT / "docs" / "daily-routine.md").read_text(encoding="utf-8")


def test_every_dependency_and_every_module_has_its_reason() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[<>=~]", each)[0] for each in needed}
    modules = {
        path.stem
        for path in (ROOT / "copytrader").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and not path.stem.startswith("__")
    }

    assert {name for name in names | modules if f"`{name}`" not in page} == set()


def test_every_reason_for_not_copying_is_explained() -> None:
    page = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    table = page.partition("## Reasons for not copying")[2]

    assert set(re.findall(r"`([A-Z_]+)`", table)) == {reason.value for reason in SkipReason}


def test_the_readme_shows_what_the_demonstration_prints(env: dict[str, str]) -> None:
    shown = next(block for block in BLOCKS if block.page.name == "README.md" and block.text.startswith("order "))
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "copytrader", "demo"], check=True, capture_output=True, text=True, timeout=60, env=env
    )

    assert time.monotonic() - started < 30
    printed = [line.split() for line in done.stdout.splitlines()]
    for line in shown.text.splitlines():
        if not line.startswith("─"):
            assert line.split() in printed


def test_every_rule_that_is_taken_away_stands_in_the_table_of_who_notices() -> None:
    table = (ROOT / "docs/testing.md").read_text()

    rules = [*(each.rule for each in MUTATIONS), *(each.name for each in RULES)]
    assert [rule for rule in rules if f"| {rule} |" not in table] == []

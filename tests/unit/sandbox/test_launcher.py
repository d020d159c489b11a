"""The launcher as its user sees it, with stand-ins for the parts."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.parts import free_port

STAND_IN = Path(__file__).with_name("stand_in.py")
PATIENCE = 20.0


class Launcher:
    """One sandbox of stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()

    def environment(self, stand_in: str = "") -> dict[str, str]:
        chosen = {"SANDBOX_DIR": str(self.folder), "PORT": str(self.port), "STAND_IN": stand_in}
        return {**os.environ, **chosen}

    def run(self, *arguments: str, stand_in: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, str(STAND_IN), *arguments],
            env=self.environment(stand_in),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def begin(self, *arguments: str, stand_in: str = "") -> "subprocess.Popen[str]":
        command = [sys.executable, str(STAND_IN), *arguments]
        return subprocess.Popen(command, env=self.environment(stand_in), stdout=subprocess.PIPE, text=True)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        return state

    def pids(self) -> list[int]:
        state = self.state()
        return [state["supervisor"], *(part["pid"] for part in state["parts"].values() if part["pid"])]

    def responds(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=1) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    made = Launcher(tmp_path / "sandbox")
    yield made
    made.run("down")


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.01)


def test_up_returns_with_everything_running_and_down_ends_it(launcher: Launcher) -> None:
    up = launcher.run("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "Flyteplane is ready" in up.stdout
    assert f"localhost:{launcher.port}" in up.stdout
    assert launcher.responds()
    pids = launcher.pids()
    down = launcher.run("down")
    assert down.returncode == 0
    assert not any(map(lives, pids))
    assert not launcher.responds()
    assert launcher.run("down").stdout == "Flyteplane is not running.\n"


def test_client_config_names_the_gateway(launcher: Launcher) -> None:
    launcher.run("up")
    assert f"endpoint: dns:///localhost:{launcher.port}\n" in (launcher.folder / "config.yaml").read_text()


def test_second_up_prints_the_address_of_the_running_sandbox(launcher: Launcher) -> None:
    launcher.run("up")
    pids = launcher.pids()
    again = launcher.run("up")
    assert again.returncode == 0
    assert f"running already: localhost:{launcher.port}" in again.stdout
    assert launcher.pids() == pids


def test_status_shows_health_and_memory(launcher: Launcher) -> None:
    assert launcher.run("status").returncode == 3
    launcher.run("up")
    status = launcher.run("status")
    assert status.returncode == 0
    assert "memory of all (PSS):" in status.stdout
    rows = {line.split()[0]: line.split()[1] for line in status.stdout.splitlines()[1:5]}
    assert rows == {"front": "ready", "back": "ready", "other": "ready", "supervisor": "running"}


def test_port_in_use_is_one_clear_line(launcher: Launcher) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", launcher.port))
        other.listen()
        up = launcher.run("up")
    assert up.returncode == 1
    assert up.stderr == f"port {launcher.port} is in use by another program; choose another: make up PORT=31080\n"


def test_part_that_dies_at_start_is_named_with_the_end_of_its_log(launcher: Launcher) -> None:
    up = launcher.run("up", stand_in="back-dies")
    assert up.returncode == 1
    assert "back ended at start: exit code 7" in up.stdout
    assert "    no disk left" in up.stdout
    assert "Everything was stopped." in up.stdout
    assert launcher.run("status").returncode == 3
    assert not (launcher.folder / "state.json").exists()


def test_killed_part_comes_back_on_the_same_port(launcher: Launcher) -> None:
    launcher.run("up")
    killed = launcher.state()["parts"]["front"]["pid"]
    os.kill(killed, signal.SIGKILL)
    until(lambda: launcher.state()["parts"]["front"]["restarts"] == 1)
    until(launcher.responds)
    until(lambda: launcher.run("status").returncode == 0)
    front = launcher.state()["parts"]["front"]
    assert front["pid"] != killed
    assert front["last_end"] == "killed by SIGKILL"


def test_stopped_part_stays_down_until_it_is_started(launcher: Launcher) -> None:
    launcher.run("up")
    assert launcher.run("stop", "front").returncode == 0
    assert not launcher.responds()
    status = launcher.run("status")
    assert status.returncode == 1
    assert ["front", "stopped", "-"] in [line.split()[:3] for line in status.stdout.splitlines()]
    assert launcher.run("start", "front").returncode == 0
    assert launcher.responds()
    front = launcher.state()["parts"]["front"]
    assert (front["restarts"], front["last_end"], front["held"]) == (0, "", False)


def test_up_after_down_holds_nothing_down(launcher: Launcher) -> None:
    launcher.run("up")
    launcher.run("stop", "front")
    launcher.run("down")
    launcher.run("up")
    assert launcher.responds()


@pytest.mark.parametrize("command", ["stop", "start"])
def test_part_that_does_not_exist_is_one_clear_line(launcher: Launcher, command: str) -> None:
    assert launcher.run(command, "front").stderr == f"no sandbox is running in {launcher.folder}\n"
    launcher.run("up")
    assert launcher.run(command, "back2").stderr == "there is no part 'back2'; there are: front, back, other\n"


def test_killed_supervisor_leaves_no_process_and_the_next_up_works(launcher: Launcher) -> None:
    launcher.run("up")
    pids = launcher.pids()
    os.kill(launcher.state()["supervisor"], signal.SIGKILL)
    until(lambda: not any(map(lives, pids)))
    status = launcher.run("status")
    assert status.returncode == 3
    assert "It was killed." in status.stdout
    assert launcher.run("up").returncode == 0
    assert launcher.responds()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_launcher_that_ends_while_starting_leaves_no_process(launcher: Launcher, number: signal.Signals) -> None:
    up = launcher.begin("up", stand_in="back-hangs")
    until(lambda: (launcher.folder / "state.json").exists() and len(launcher.pids()) == 3)
    pids = launcher.pids()
    up.send_signal(number)
    up.communicate(timeout=PATIENCE)
    until(lambda: not any(map(lives, pids)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_foreground_stays_until_a_signal_and_stops_everything(launcher: Launcher, number: signal.Signals) -> None:
    up = launcher.begin("up", "--foreground")
    until(launcher.responds)
    pids = launcher.pids()
    assert up.poll() is None
    assert pids[0] == up.pid
    until(lambda: launcher.state()["phase"] == "running")
    up.send_signal(number)
    output, _ = up.communicate(timeout=PATIENCE)
    assert up.returncode == 0
    assert output.endswith("Stopped.\n")
    assert not any(map(lives, pids))


def test_two_sandboxes_run_side_by_side(launcher: Launcher, tmp_path: Path) -> None:
    other = Launcher(tmp_path / "other")
    try:
        assert launcher.run("up").returncode == 0
        assert other.run("up").returncode == 0
        launcher.run("down")
        assert other.responds()
    finally:
        other.run("down")


def test_up_closes_the_pipes_that_it_inherited(launcher: Launcher) -> None:
    # Otherwise `make up | tee log` would never end. `run` reads a pipe to its end.
    assert launcher.run("up").returncode == 0
    assert launcher.responds()


def test_logs_show_the_output_of_a_part(launcher: Launcher) -> None:
    launcher.run("up")
    assert launcher.run("logs", "front").stdout == f"serving {launcher.port}\n"
    assert f"front      | serving {launcher.port}\n" in launcher.run("logs").stdout
    assert "no log of back2" in launcher.run("logs", "back2").stderr


def test_reset_stops_and_deletes(launcher: Launcher) -> None:
    launcher.run("up")
    pids = launcher.pids()
    assert launcher.run("reset").returncode == 0
    assert not launcher.folder.exists()
    assert not any(map(lives, pids))


@pytest.mark.parametrize("command", ["up", "reset"])
def test_folder_that_is_no_sandbox_is_left_alone(launcher: Launcher, command: str) -> None:
    launcher.folder.mkdir()
    (launcher.folder / "thesis.txt").write_text("mine")
    assert launcher.run(command).returncode == 1
    assert [file.name for file in launcher.folder.iterdir()] == ["thesis.txt"]

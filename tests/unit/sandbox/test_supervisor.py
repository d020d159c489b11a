"""Order of start and stop, steps, stamps and stubborn parts, with small processes."""

import asyncio
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.sandbox import supervisor as module
from deploy.sandbox.errors import PartError
from deploy.sandbox.part import Part, Stamp, Step
from deploy.sandbox.supervisor import Supervisor
from tests.support.waiting import until

# Writes its start and end into the journal; it is ready when the file of its name exists.
PROGRAM = """
import os, pathlib, signal, sys, time
name, journal = sys.argv[1], pathlib.Path(sys.argv[2])
def note(text):
    with journal.open("a") as stream: stream.write(f"{text} {name}\\n")
def end(*_):
    note("-")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("+")
journal.with_name(name).touch()
while True: time.sleep(60)
"""
STUBBORN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[2]).with_name(sys.argv[1]).touch()
while True: time.sleep(60)
"""


class Folder:
    """A folder with parts that write a journal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = path / "journal"

    def part(
        self,
        name: str,
        *needs: str,
        program: str = PROGRAM,
        steps: tuple[Step, ...] = (),
        stops_before: tuple[str, ...] = (),
        files: Mapping[Path, str] | None = None,
    ) -> Part:
        async def ready(_pid: int) -> bool:
            return (self.path / name).exists()

        command = (sys.executable, "-S", "-c", program, name, str(self.journal))
        return Part(name, command, ready, needs=needs, steps=steps, stops_before=stops_before, files=files or {})

    def supervisor(self, *parts: Part) -> Supervisor:
        return Supervisor(parts, env=os.environ, folder=self.path, logs=self.path)

    async def run(self, *parts: Part) -> list[str]:
        """Start all, stop all; return the journal and begin a new one."""
        supervisor = self.supervisor(*parts)
        await supervisor.run(supervisor.stop)
        lines = self.journal.read_text().splitlines()
        self.journal.unlink()
        for part in parts:
            (self.path / part.name).unlink()
        return lines


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def test_parts_start_after_what_they_need_and_stop_before_it(folder: Folder) -> None:
    journal = await folder.run(folder.part("c", "b"), folder.part("b", "a"), folder.part("a"))
    assert journal == ["+ a", "+ b", "+ c", "- c", "- b", "- a"]


async def test_part_that_stops_before_another_has_not_waited_for_it(folder: Folder) -> None:
    journal = await folder.run(folder.part("front", stops_before=("back",)), folder.part("back"))
    assert sorted(journal[:2]) == ["+ back", "+ front"]
    assert journal[2:] == ["- front", "- back"]


async def test_steps_run_before_the_part_but_not_again_with_a_fresh_stamp(folder: Folder) -> None:
    note = f"open({str(folder.journal)!r}, 'a').write('step\\n')"
    stamp = Stamp(folder.path / "stamp", "release 1")
    step = Step((sys.executable, "-S", "-c", note), stamp)
    assert await folder.run(folder.part("a", steps=(step,))) == ["step", "+ a", "- a"]
    assert await folder.run(folder.part("a", steps=(step,))) == ["+ a", "- a"]
    newer = Step(step.command, Stamp(stamp.path, "release 2"))
    assert await folder.run(folder.part("a", steps=(newer,))) == ["step", "+ a", "- a"]


async def test_step_that_fails_names_the_part_and_leaves_no_stamp(folder: Folder) -> None:
    stamp = Stamp(folder.path / "stamp", "release 1")
    step = Step((sys.executable, "-S", "-c", "import sys; sys.exit('schema too new')"), stamp)
    with pytest.raises(PartError, match=r"(?s)^a could not be prepared: exit code 1.*schema too new"):
        await folder.run(folder.part("a", steps=(step,)))
    assert not stamp.fresh


async def test_command_that_does_not_exist_names_the_part(folder: Folder) -> None:
    part = Part("a", ("/no/such/program",), folder.part("a").is_ready)
    with pytest.raises(PartError, match=r"^a cannot be run: .*/no/such/program"):
        await folder.run(part)


async def test_files_are_written_before_the_start(folder: Folder) -> None:
    config = folder.path / "config"
    await folder.run(folder.part("a", files={config: "port: 1"}))
    assert config.read_text() == "port: 1"


async def test_part_that_is_never_ready_fails_the_start(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READY_SECONDS", 0.2)
    with pytest.raises(PartError, match=r"^a was not ready after 0 s"):
        await folder.run(folder.part("a", program="import time; time.sleep(60)"))


async def test_part_that_ignores_the_stop_signal_is_killed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.2)
    supervisor = folder.supervisor(folder.part("a", program=STUBBORN))
    await supervisor.run(supervisor.stop)
    process = supervisor.processes["a"].process
    assert process is not None
    assert process.returncode == -9


async def test_second_stop_kills_at_once(folder: Folder) -> None:
    supervisor = folder.supervisor(folder.part("a", program=STUBBORN))

    def stop_twice() -> None:
        supervisor.stop()
        supervisor.stop()

    async with asyncio.timeout(5):  # far below the 12 s of a single request
        await supervisor.run(stop_twice)


async def test_part_that_is_held_stays_down_and_counts_no_restart(folder: Folder) -> None:
    supervisor = folder.supervisor(folder.part("a"), folder.part("b"))
    part_a, part_b = supervisor.processes["a"], supervisor.processes["b"]
    started = asyncio.Event()
    running = asyncio.create_task(supervisor.run(started.set))
    await started.wait()
    first, other_process = part_a.process, part_b.process
    assert first is not None
    supervisor.hold({"a"})
    await until(lambda: first.returncode is not None and not part_a.ready.is_set())
    supervisor.hold({"a"})
    (folder.path / "a").unlink()
    supervisor.hold(())
    await until(part_a.ready.is_set)
    assert part_a.process is not first
    assert (part_a.restarts, part_a.last_end) == (0, "")
    assert part_b.process is other_process
    supervisor.stop()
    await running
    assert sorted(folder.journal.read_text().splitlines()) == sorted(["+ a", "+ b", "- a", "+ a", "- a", "- b"])


async def test_stop_while_a_part_is_held_ends(folder: Folder) -> None:
    supervisor = folder.supervisor(folder.part("a"), folder.part("b", "a"))

    def hold_and_stop() -> None:
        supervisor.hold({"a"})
        supervisor.stop()

    await supervisor.run(hold_and_stop)
    assert all(running.gone.is_set() for running in supervisor.processes.values())


async def test_part_that_keeps_dying_is_restarted_with_growing_pauses(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    supervisor = folder.supervisor(folder.part("a"))
    sleep = asyncio.sleep

    async def recorded(seconds: float) -> None:
        if seconds in module._RESTART_SECONDS:
            waits.append(seconds)
            if len(waits) == len(module._RESTART_SECONDS) + 1:
                supervisor.stop()
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", recorded)

    def make_it_die() -> None:
        part_a = supervisor.processes["a"]
        object.__setattr__(part_a.part, "command", (sys.executable, "-S", "-c", "raise SystemExit(1)"))
        (folder.path / "a").unlink()
        assert part_a.process is not None
        part_a.process.kill()

    await supervisor.run(make_it_die)
    assert waits == [*module._RESTART_SECONDS, module._RESTART_SECONDS[-1]]


async def test_part_that_is_broken_twice_in_a_row_is_restarted(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECK_SECONDS", 0.01)
    checks = 0

    async def broken(_pid: int) -> bool:
        nonlocal checks
        checks += 1
        return checks in {1, 3, 4}  # once, and then twice in a row

    supervisor = folder.supervisor(replace(folder.part("a"), broken=broken))
    part_a = supervisor.processes["a"]
    started = asyncio.Event()
    running = asyncio.create_task(supervisor.run(started.set))
    await started.wait()
    first = part_a.process
    await until(lambda: checks == 3)
    assert part_a.process is first
    await until(lambda: part_a.restarts == 1 and part_a.ready.is_set())
    assert part_a.process is not first
    assert part_a.last_end == "its check found it broken"
    supervisor.stop()
    await running


async def test_part_whose_configuration_cannot_be_written_keeps_the_others_running(folder: Folder) -> None:
    config = folder.path / "config"
    part = folder.part("a", files={config: "port: 1"})
    supervisor = folder.supervisor(part, folder.part("b"))
    part_a, part_b = supervisor.processes["a"], supervisor.processes["b"]
    started = asyncio.Event()
    running = asyncio.create_task(supervisor.run(started.set))
    await started.wait()
    other_process, first = part_b.process, part_a.process
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    config.unlink()
    config.mkdir()  # no file can replace it, as on a full disk
    assert first is not None
    first.kill()
    await until(lambda: part_a.last_end.startswith("a cannot be configured"))
    config.rmdir()
    await until(part_a.ready.is_set)
    assert config.read_text() == "port: 1"
    assert (part_b.process, part_b.restarts) == (other_process, 0)
    supervisor.stop()
    await running

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

# Writes its start and end into the journal; READY is a file that says that it is ready.
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


class Room:
    """A folder for parts that keep a journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "journal"

    def part(
        self,
        name: str,
        *needs: str,
        program: str = PROGRAM,
        before: tuple[Step, ...] = (),
        in_front_of: tuple[str, ...] = (),
        files: Mapping[Path, str] | None = None,
    ) -> Part:
        async def ready(_pid: int) -> bool:
            return (self.folder / name).exists()

        command = (sys.executable, "-S", "-c", program, name, str(self.journal))
        return Part(name, command, ready, needs=needs, before=before, in_front_of=in_front_of, files=files or {})

    def supervisor(self, *parts: Part) -> Supervisor:
        return Supervisor(parts, env=os.environ, folder=self.folder, logs=self.folder)

    async def run(self, *parts: Part) -> list[str]:
        """Start all, stop all; answers the journal and begins a new one."""
        supervisor = self.supervisor(*parts)
        await supervisor.run(supervisor.stop)
        told = self.journal.read_text().splitlines()
        self.journal.unlink()
        for part in parts:
            (self.folder / part.name).unlink()
        return told


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


async def test_parts_start_after_what_they_need_and_stop_before_it(room: Room) -> None:
    journal = await room.run(room.part("c", "b"), room.part("b", "a"), room.part("a"))
    assert journal == ["+ a", "+ b", "+ c", "- c", "- b", "- a"]


async def test_the_front_stops_first_without_having_waited(room: Room) -> None:
    journal = await room.run(room.part("front", in_front_of=("back",)), room.part("back"))
    assert sorted(journal[:2]) == ["+ back", "+ front"]
    assert journal[2:] == ["- front", "- back"]


async def test_steps_run_before_the_part_and_a_stamp_saves_the_second_time(room: Room) -> None:
    note = f"open({str(room.journal)!r}, 'a').write('step\\n')"
    stamp = Stamp(room.folder / "stamp", "release 1")
    step = Step((sys.executable, "-S", "-c", note), stamp)
    assert await room.run(room.part("a", before=(step,))) == ["step", "+ a", "- a"]
    assert await room.run(room.part("a", before=(step,))) == ["+ a", "- a"]
    newer = Step(step.command, Stamp(stamp.path, "release 2"))
    assert await room.run(room.part("a", before=(newer,))) == ["step", "+ a", "- a"]


async def test_step_that_fails_names_the_part_and_leaves_no_stamp(room: Room) -> None:
    stamp = Stamp(room.folder / "stamp", "release 1")
    step = Step((sys.executable, "-S", "-c", "import sys; sys.exit('schema too new')"), stamp)
    with pytest.raises(PartError, match=r"(?s)^a could not be prepared: exit code 1.*schema too new"):
        await room.run(room.part("a", before=(step,)))
    assert not stamp.fresh


async def test_command_that_does_not_exist_names_the_part(room: Room) -> None:
    part = Part("a", ("/no/such/program",), room.part("a").ready)
    with pytest.raises(PartError, match=r"^a cannot be run: .*/no/such/program"):
        await room.run(part)


async def test_files_are_written_before_the_start(room: Room) -> None:
    config = room.folder / "config"
    await room.run(room.part("a", files={config: "port: 1"}))
    assert config.read_text() == "port: 1"


async def test_part_that_is_never_ready_fails_the_start(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READY_SECONDS", 0.2)
    with pytest.raises(PartError, match=r"^a was not ready after 0 s"):
        await room.run(room.part("a", program="import time; time.sleep(60)"))


async def test_part_that_ignores_the_stop_signal_is_killed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.2)
    supervisor = room.supervisor(room.part("a", program=STUBBORN))
    await supervisor.run(supervisor.stop)
    process = supervisor.parts["a"].process
    assert process is not None
    assert process.returncode == -9


async def test_asking_twice_to_stop_kills_at_once(room: Room) -> None:
    supervisor = room.supervisor(room.part("a", program=STUBBORN))

    def stop_twice() -> None:
        supervisor.stop()
        supervisor.stop()

    async with asyncio.timeout(5):  # far below the 12 s of a single request
        await supervisor.run(stop_twice)


async def test_part_that_is_held_stays_down_and_counts_no_restart(room: Room) -> None:
    supervisor = room.supervisor(room.part("a"), room.part("b"))
    one, other = supervisor.parts["a"], supervisor.parts["b"]
    started = asyncio.Event()
    running = asyncio.create_task(supervisor.run(started.set))
    await started.wait()
    first, cpu_pool = one.process, other.process
    assert first is not None
    supervisor.hold({"a"})
    await until(lambda: first.returncode is not None and not one.ready.is_set())
    supervisor.hold({"a"})
    (room.folder / "a").unlink()
    supervisor.hold(())
    await until(one.ready.is_set)
    assert one.process is not first
    assert (one.restarts, one.last_end) == (0, "")
    assert other.process is cpu_pool
    supervisor.stop()
    await running
    assert sorted(room.journal.read_text().splitlines()) == sorted(["+ a", "+ b", "- a", "+ a", "- a", "- b"])


async def test_stopping_everything_while_a_part_is_held_ends(room: Room) -> None:
    supervisor = room.supervisor(room.part("a"), room.part("b", "a"))

    def hold_and_stop() -> None:
        supervisor.hold({"a"})
        supervisor.stop()

    await supervisor.run(hold_and_stop)
    assert all(one.gone.is_set() for one in supervisor.parts.values())


async def test_part_that_keeps_dying_is_tried_with_patience(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    supervisor = room.supervisor(room.part("a"))
    sleep = asyncio.sleep

    async def recorded(seconds: float) -> None:
        if seconds in module._RESTART_SECONDS:
            waits.append(seconds)
            if len(waits) == len(module._RESTART_SECONDS) + 1:
                supervisor.stop()
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", recorded)

    def make_it_die() -> None:
        one = supervisor.parts["a"]
        object.__setattr__(one.part, "command", (sys.executable, "-S", "-c", "raise SystemExit(1)"))
        (room.folder / "a").unlink()
        assert one.process is not None
        one.process.kill()

    await supervisor.run(make_it_die)
    assert waits == [*module._RESTART_SECONDS, module._RESTART_SECONDS[-1]]


async def test_part_that_says_it_is_broken_is_restarted_and_told(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    asked = 0

    async def broken(_pid: int) -> bool:
        nonlocal asked
        asked += 1
        return asked in {1, 3, 4}  # once, and then twice in a row

    supervisor = room.supervisor(replace(room.part("a"), broken=broken))
    one = supervisor.parts["a"]
    started = asyncio.Event()
    running = asyncio.create_task(supervisor.run(started.set))
    await started.wait()
    first = one.process
    await until(lambda: asked == 3)
    assert one.process is first
    await until(lambda: one.restarts == 1 and one.ready.is_set())
    assert one.process is not first
    assert one.last_end == "it said that it is broken"
    supervisor.stop()
    await running


async def test_part_whose_configuration_cannot_be_written_keeps_the_others_running(room: Room) -> None:
    config = room.folder / "config"
    part = room.part("a", files={config: "port: 1"})
    supervisor = room.supervisor(part, room.part("b"))
    one, other = supervisor.parts["a"], supervisor.parts["b"]
    started = asyncio.Event()
    running = asyncio.create_task(supervisor.run(started.set))
    await started.wait()
    cpu_pool, first = other.process, one.process
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    config.unlink()
    config.mkdir()  # no file can take its place, as on a disk that is full
    assert first is not None
    first.kill()
    await until(lambda: one.last_end.startswith("a cannot be configured"))
    config.rmdir()
    await until(one.ready.is_set)
    assert config.read_text() == "port: 1"
    assert (other.process, other.restarts) == (cpu_pool, 0)
    supervisor.stop()
    await running

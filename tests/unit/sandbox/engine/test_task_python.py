"""The Python of tasks is the chosen one, or is made once; tasks wait for it."""

import asyncio
import sys
from pathlib import Path

import pytest

from deploy.sandbox.engine.tasks.task_python import NoTaskPython, TaskPython


def task_python(folder: Path, *, chosen: Path | None = None, lock: str = "") -> TaskPython:
    (folder / "lock").write_text(lock)
    return TaskPython(chosen, folder / "environment", folder / "lock", folder / "log")


async def test_chosen_python_is_ready_at_once(tmp_path: Path) -> None:
    python = task_python(tmp_path, chosen=Path(sys.executable))
    await python.prepare()
    assert await python.wait() == Path(sys.executable)
    assert (python.state(), (tmp_path / "environment").exists()) == ("", False)


async def test_chosen_python_that_is_not_there_is_reported(tmp_path: Path) -> None:
    python = task_python(tmp_path, chosen=tmp_path / "none")
    await python.prepare()
    with pytest.raises(NoTaskPython, match="is not there"):
        await python.wait()


async def test_tasks_wait_until_the_environment_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    gate = asyncio.Event()

    async def make(self: TaskPython) -> None:
        await gate.wait()
        made.append("made")
        self.python.parent.mkdir(parents=True)
        self.python.touch()
        self._stamp.write_text(self.lock.read_text())

    monkeypatch.setattr(TaskPython, "_make", make)
    first, second = task_python(tmp_path), task_python(tmp_path)
    preparing = [asyncio.create_task(each.prepare()) for each in (first, second)]
    waiting = asyncio.create_task(first.wait())
    await asyncio.sleep(0.02)
    assert (waiting.done(), first.state()) == (False, "the Python of tasks is being prepared")
    gate.set()
    await asyncio.gather(*preparing)
    assert await waiting == await second.wait() == tmp_path / "environment" / "bin" / "python"
    assert made == ["made"]


async def test_failed_preparation_is_reported_to_each_task(tmp_path: Path) -> None:
    (tmp_path / "environment").write_text("a file where the environment should be")
    python = task_python(tmp_path)
    await python.prepare()
    for _ in range(2):
        with pytest.raises(NoTaskPython, match=r"cannot be prepared: .*Not a directory"):
            await python.wait()
    assert "Not a directory" in python.state()

"""Tasks share what the machine has, or less if the sandbox runs in a container with limits."""

import os
from fractions import Fraction
from pathlib import Path

import psutil
import pytest

from deploy.sandbox.engine.tasks.budget import Share
from deploy.sandbox.engine.tasks.machine_size import machine_share

WHOLE = Share(Fraction(len(os.sched_getaffinity(0))), Fraction(psutil.virtual_memory().total))


def limits(folder: Path, cpu: str, memory: str) -> Path:
    (folder / "cpu.max").write_text(f"{cpu}\n")
    (folder / "memory.max").write_text(f"{memory}\n")
    return folder


@pytest.mark.parametrize(("cpu", "memory"), [("max 100000", "max"), ("6400000 100000", str(2**60)), ("", "")])
def test_machine_without_narrower_limits_is_shared_as_a_whole(tmp_path: Path, cpu: str, memory: str) -> None:
    assert machine_share(0, 0, limits(tmp_path, cpu, memory)) == WHOLE


def test_machine_without_control_groups_is_shared_as_a_whole(tmp_path: Path) -> None:
    assert machine_share(0, 0, tmp_path / "gone") == WHOLE


def test_limits_of_a_container_count(tmp_path: Path) -> None:
    expected = Share(Fraction(1, 2), Fraction(1024))
    assert machine_share(0, 0, limits(tmp_path, "50000 100000", "1024")) == expected


def test_settings_go_before_all(tmp_path: Path) -> None:
    assert machine_share(3.0, 2048, limits(tmp_path, "50000 100000", "1024")) == Share(Fraction(3), Fraction(2048))

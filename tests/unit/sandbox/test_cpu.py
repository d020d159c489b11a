"""CPU use of processes."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.sandbox import cpu
from deploy.sandbox.cpu import CpuUse, cpu_seconds

# More than the tests need: the kernel counts in steps of 10 ms.
BURN = "import time\nwhile time.process_time() < 0.4: pass\n"
# Burns in a child that has ended, then reports that, and waits.
PARENT = (
    f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])\nprint(flush=True)\nsys.stdin.read()"
)


@pytest.mark.parametrize("whole_tree", [True, False])
def test_cpu_of_ended_children_counts_with_the_whole_tree(whole_tree: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert (cpu_seconds(process.pid, whole_tree=whole_tree) >= 0.3) is whole_tree
        process.kill()


def test_cpu_of_a_process_that_has_gone_is_zero() -> None:
    assert cpu_seconds(-1) == 0


@pytest.mark.parametrize(
    ("samples", "cores"),
    [
        pytest.param([], 0.05, id="no sample yet: since the start of the process, 10 s ago"),
        pytest.param([(-75.0, 0.0), (-60.0, 0.2), (-15.0, 0.3)], 0.005, id="since the sample a minute ago"),
    ],
)
def test_cores_are_cpu_by_time(
    samples: list[tuple[float, float]], cores: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "cpu_seconds", lambda _pid, **_: 0.5)
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    file = tmp_path / "cpu.json"
    file.write_text(json.dumps([(1000.0 + at, {"7": used}) for at, used in samples]))
    assert CpuUse(file).cores(7, started=990.0) == pytest.approx(cores)


def test_use_without_a_file_is_that_since_the_start(tmp_path: Path) -> None:
    assert CpuUse(tmp_path / "none.json").cores(-1, time.time() - 10) == 0

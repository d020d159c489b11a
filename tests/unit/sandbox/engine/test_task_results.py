"""What an attempt left decides what becomes of it."""

import os
import signal
from pathlib import Path

import pytest
from flyteidl.core.dynamic_job_pb2 import DynamicJobSpec
from flyteidl.core.errors_pb2 import ContainerError, ErrorDocument
from flyteidl.core.execution_pb2 import ExecutionError
from flyteidl.core.interface_pb2 import TypedInterface, Variable, VariableMap
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate

from deploy.sandbox.engine.tasks import results
from services.kit.objects.store import ObjectStore

WITH_OUTPUTS = TaskTemplate(interface=TypedInterface(outputs=VariableMap(variables={"o0": Variable()})))
OUTPUTS = LiteralMap(literals={"o0": Literal()})


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore.open((tmp_path / "objects").as_uri(), "", "")


@pytest.fixture
def prefix(objects: ObjectStore) -> str:
    return objects.uri("n0", "0")


async def put_error(objects: ObjectStore, prefix: str, **error: object) -> None:
    document = ErrorDocument(error=ContainerError(**error))  # type: ignore[arg-type]
    await objects.put(f"{prefix}/error.pb", document.SerializeToString())


async def test_outputs_are_read(objects: ObjectStore, prefix: str) -> None:
    await objects.put(f"{prefix}/outputs.pb", OUTPUTS.SerializeToString())
    await objects.put(f"{prefix}/deck.html", b"<p>")
    assert await results.read(objects, prefix, WITH_OUTPUTS) == results.Result(outputs=OUTPUTS, deck=True)


async def test_dynamic_job_spec_goes_before_outputs(objects: ObjectStore, prefix: str) -> None:
    spec = DynamicJobSpec(min_successes=1)
    await objects.put(f"{prefix}/outputs.pb", OUTPUTS.SerializeToString())
    await objects.put(f"{prefix}/futures.pb", spec.SerializeToString())
    assert await results.read(objects, prefix, WITH_OUTPUTS) == results.Result(futures=spec)


@pytest.mark.parametrize(("kind", "recoverable"), [("RECOVERABLE", True), ("NON_RECOVERABLE", False)])
async def test_error_goes_before_outputs_and_has_its_origin(
    objects: ObjectStore, prefix: str, kind: str, recoverable: bool
) -> None:
    await objects.put(f"{prefix}/outputs.pb", OUTPUTS.SerializeToString())
    await put_error(objects, prefix, code="USER:X", message="m", kind=kind, origin=ExecutionError.USER, worker="w")
    found = await results.read(objects, prefix, WITH_OUTPUTS)
    assert found.error == ExecutionError(code="USER:X", message="m", kind=ExecutionError.USER, worker="w")
    assert found.recoverable is recoverable


async def test_task_with_outputs_that_wrote_none_has_failed(objects: ObjectStore, prefix: str) -> None:
    found = await results.read(objects, prefix, WITH_OUTPUTS)
    assert found.error is not None
    assert (found.error.code, found.recoverable) == ("OutputsNotFound", True)


async def test_task_without_outputs_may_write_none(objects: ObjectStore, prefix: str) -> None:
    assert await results.read(objects, prefix, TaskTemplate()) == results.Result(outputs=LiteralMap())


async def test_unreadable_outputs_are_an_error_of_the_task(objects: ObjectStore, prefix: str) -> None:
    await objects.put(f"{prefix}/outputs.pb", b"\xff\xff")
    found = await results.read(objects, prefix, WITH_OUTPUTS)
    assert found.error is not None
    assert found.error.code == "BadOutputs"


async def test_what_an_earlier_start_left_is_deleted(objects: ObjectStore, prefix: str) -> None:
    await put_error(objects, prefix, code="old")
    await results.clear(objects, prefix)
    await results.clear(objects, prefix)
    assert await objects.head(f"{prefix}/error.pb") is None


@pytest.mark.parametrize(
    ("status", "code", "kind", "text"),
    [
        (1 << 8, "UnknownError", ExecutionError.USER, "[t] terminated with exit code (1). Reason [Error]."),
        (signal.SIGSEGV, "UnknownError", ExecutionError.USER, "exit code (139). Reason [SIGSEGV]"),
        (signal.SIGKILL, "Interrupted", ExecutionError.SYSTEM, "exit code (137). Reason [SIGKILL]"),
        (137 << 8, "Interrupted", ExecutionError.SYSTEM, "exit code (137). Reason [Error]"),
    ],
)
def test_bad_end_is_an_error_with_the_end_of_the_log(
    tmp_path: Path, status: int, code: str, kind: int, text: str
) -> None:
    log = tmp_path / "log"
    log.write_text("first\n" * 1000 + "the last line\n")
    found = results.ended_badly(status, "t", log)
    assert found is not None
    assert found.error is not None
    assert (found.error.code, found.error.kind, found.recoverable) == (code, kind, True)
    assert text in found.error.message
    assert found.error.message.endswith("the last line.")
    assert len(found.error.message) < 2500


def test_pipe_in_place_of_the_log_leaves_the_message_without_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")  # to open it would wait for a writer
    found = results.ended_badly(1 << 8, "t", tmp_path / "log")
    assert found is not None
    assert found.error is not None
    assert found.error.message.endswith("It printed nothing.")


def test_good_end_is_no_error(tmp_path: Path) -> None:
    assert results.ended_badly(0, "t", tmp_path / "none") is None


def test_killed_task_that_printed_nothing_names_the_usual_cause(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f"{results.NOTE}, not in the image 'x'.\n")
    found = results.ended_badly(signal.SIGKILL, "t", log)
    assert found is not None
    assert found.error is not None
    assert "Reason [SIGKILL]. The usual cause is a lack of memory" in found.error.message
    assert found.error.message.endswith("It printed nothing.")


@pytest.mark.parametrize(
    ("counters", "text"),
    [
        ("nr_free 5\noom_kill 3\n", "a lack of memory: the kernel has killed 3 for that since it started; "),
        ("oom_kill 0\n", "but the kernel has killed no process for that since it started."),
        ("no counters at all\n", "The usual cause is a lack of memory."),
    ],
)
def test_lack_of_memory_follows_the_counter_of_the_kernel(counters: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "vmstat"
    file.write_text(counters)
    assert text in results.lack_of_memory(file)

"""The files that docs/architecture.md#four-calls lists are those whose functions run for a call, and no others.

The services run in this process, and a profile function records the file of every function that is called. There is no
gateway: no function of the services runs for it, and what it adds to a REST call, a header, is sent by the test.
"""

import asyncio
import contextlib
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ResourceListRequest
from flyteidl.admin.event_pb2 import NodeExecutionEventRequest
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionSpec
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.kit.rpc.json_replies import JSON_REPLY_HEADER
from tests.support.entities import DOMAIN, INTEGER, PROJECT, STRING, identifier, literals, task
from tests.support.event_makers import node_event
from tests.support.executions import execution_id
from tests.support.parts import Parts, service
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture").with_suffix(".md").read_text()
SERVICES = ("projects", "registry", "executions", "events")
# Loops of the services run meanwhile, and so do others' checks of their health. They seldom run in all recordings of a
# short call. That of an event takes a second, until it is in the event log: so as much time without a call is recorded.
RECORDINGS = 3
FILE = re.compile(r"`(services/[\w/]+\.py)`")
EXECUTION = "launched"

Call = Callable[[int], Awaitable[object]]


@dataclass
class Recorder:
    """Records which files of the services have functions that run."""

    files: set[str] = field(default_factory=set)

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(f"{ROOT}/services/") and code.co_name != "<module>":
            self.files.add(code.co_filename.removeprefix(f"{ROOT}/"))

    @contextlib.contextmanager
    def in_new_threads(self) -> Iterator[None]:
        """Record what runs in the threads that are started during the block."""
        threading.setprofile(self)
        try:
            yield
        finally:
            threading.setprofile(None)

    @contextlib.contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """Record what runs in this thread during the block."""
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)


def _section(heading: str) -> str:
    return PAGE.split(f"\n{heading}\n")[1].partition("\n#")[0]


def _numbered(section: str) -> set[str]:
    """Return the files of the items of a section's numbered list."""
    return set(FILE.findall("\n".join(re.findall(r"^\d+\. .*$", section, re.MULTILINE))))


def _kit() -> set[str]:
    """Return the ten files of the kit that every call crosses."""
    return set(re.findall(r"\d+\. `(services/[\w/]+\.py)`", _section("## Four calls")))


def _listed(call: str) -> set[str]:
    """Return the files that the page lists for a call, with those of the event log after the reply."""
    section = _section(f"### {call}")
    after_reply = re.search(r"The event log adds .*?\n\n", section, re.DOTALL)
    assert (after_reply is not None) == (call == "CreateNodeEvent")
    return _kit() | _numbered(section) | set(FILE.findall(after_reply[0]) if after_reply else ())


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
async def calls(parts: Parts, recorder: Recorder) -> AsyncIterator[Mapping[str, Call]]:
    """Run all services in this process, and serve each call once."""
    objects = {"objects_url": f"file://{parts.folder}/call-objects"}
    own: dict[str, dict[str, Any]] = {
        "projects": {"seed_projects": (PROJECT,)},
        "registry": objects,
        "executions": objects | {"signing_key": "key"},
        "events": objects,
    }
    with recorder.in_new_threads():
        async with contextlib.AsyncExitStack() as stack:
            # Threads that an earlier test has started would not be recorded.
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4))
            stubs = {}
            for name in SERVICES:
                served = await stack.enter_async_context(service(name, parts, f"calls_{name}", **own[name]))
                # The server that the gateway calls.
                channel = grpc.aio.insecure_channel(served.settings.http2_address)
                stubs[name] = AdminServiceStub(await stack.enter_async_context(channel))
            made = _calls(stubs)
            await stubs["registry"].CreateTask(_task(RECORDINGS))
            await stubs["executions"].CreateExecution(_launch(EXECUTION))
            for call in made.values():
                await call(RECORDINGS + 1)
            yield made


def _calls(stubs: Mapping[str, AdminServiceStub]) -> Mapping[str, Call]:
    listing = ResourceListRequest(
        id=NamedEntityIdentifier(project=PROJECT, domain=DOMAIN), limit=10, filters="eq(phase,UNDEFINED)"
    )
    return {
        "CreateTask": lambda number: stubs["registry"].CreateTask(_task(number)),
        "CreateExecution": lambda number: stubs["executions"].CreateExecution(_launch(f"{EXECUTION}{number}")),
        "CreateNodeEvent": lambda number: stubs["events"].CreateNodeEvent(_event(f"n{number}")),
        "ListExecutions": lambda _: stubs["executions"].ListExecutions(listing, metadata=((JSON_REPLY_HEADER, "1"),)),
    }


def _task(number: int) -> Any:
    return task(f"task{number}", {"a": INTEGER}, {"o0": STRING}, "v1", "python:3.11")


def _launch(name: str) -> ExecutionCreateRequest:
    launch_plan: Identifier = identifier(ResourceType.TASK, f"task{RECORDINGS}")
    spec = ExecutionSpec(launch_plan=launch_plan)
    return ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, name=name, spec=spec, inputs=literals(a=1))


def _event(node: str) -> NodeExecutionEventRequest:
    event = node_event("RUNNING", node=node)
    event.id.execution_id.CopyFrom(execution_id(EXECUTION))
    event.occurred_at.GetCurrentTime()
    return NodeExecutionEventRequest(request_id=node, event=event)


@pytest.mark.parametrize("name", ["CreateTask", "CreateExecution", "CreateNodeEvent", "ListExecutions"])
async def test_files_whose_functions_run_are_those_that_the_architecture_lists(
    name: str, calls: Mapping[str, Call], recorder: Recorder
) -> None:
    listed = _listed(name)
    assert len(listed) > len(_kit()) == 10
    recorded: list[set[str]] = []
    start = time.monotonic()
    with recorder.in_this_thread():
        for number in range(RECORDINGS):
            # What runs for a call after the last listed file has run belongs to the next recording.
            recorder.files.clear()
            await calls[name](number)
            with contextlib.suppress(TimeoutError):
                await until(lambda: listed <= recorder.files)
            recorded.append(set(recorder.files))
        recorder.files.clear()
        await asyncio.sleep(time.monotonic() - start)
        without_a_call = set(recorder.files)
    always = set.intersection(*recorded)
    assert listed - always == set()
    assert always - listed - without_a_call == set()

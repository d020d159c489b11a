"""The measurements by which two stacks are compared: single calls, loads at a rate and flat out, idle time, memory.

Each returns its figures by name: latencies in milliseconds, CPU time of all processes of the stack, generator excluded.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any

from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.core.identifier_pb2 import ResourceType
from google.protobuf.message import Message

from bench.bulk import check
from bench.entities import SERVICE, Shape, execution, register
from bench.executions import play_models
from bench.executions_calls import list_calls
from bench.http2 import Channel
from bench.load import Load
from bench.processes import GENERATOR, cpu_seconds, resident_bytes
from bench.registry_calls import task
from bench.report import percentile
from bench.run import CONNECTIONS, plays
from bench.sequences import NAME_LENGTH, STAND_IN
from bench.stack import SCOPE, Stack

Figures = dict[str, float]
Measurement = Callable[[Stack], Coroutine[Any, Any, Figures]]

_RATES = (100.0, 300.0, 500.0)
_IN_FLIGHT = (64, 512)
_IDLE_SECONDS = 20.0
_CALLS = 300
_MEBIBYTE = 1 << 20
_DIGITS = 12
"""Of the number that makes the names of a run unique: the clock in milliseconds."""


async def prepare(stack: Stack) -> None:
    """Register the entities of the load, and play an execution to read."""
    await play_models(stack.port)
    channel = _channel(stack)
    await register(channel, SCOPE, list(Shape))
    channel.close()


def measurements(seconds: float) -> Iterator[Measurement]:
    """Yield the measurements; a load lasts `seconds`."""
    yield _idle
    yield _single_calls
    for rate in _RATES:
        yield partial(_at_rate, rate, seconds)
    for in_flight in _IN_FLIGHT:
        yield partial(_flat_out, in_flight, seconds)
    yield _memory


async def _idle(stack: Stack) -> Figures:
    before = _cpu(stack)
    await asyncio.sleep(_IDLE_SECONDS)
    return {"idle, cores": (_cpu(stack) - before) / _IDLE_SECONDS}


async def _memory(stack: Stack) -> Figures:
    return {"memory of all processes, MiB": sum(resident_bytes(stack.target.pids).values()) / _MEBIBYTE}


async def _single_calls(stack: Stack) -> Figures:
    """Make calls of each method one after the other."""
    reads: dict[str, Message] = {call.method: call.request for call in list_calls(SCOPE)[:2]}
    for request in reads.values():
        request.id.name = STAND_IN  # type: ignore[attr-defined]  # both have an identifier
    workflow = ObjectGetRequest(id=SCOPE.identifier(ResourceType.WORKFLOW, Shape.SINGLE.value))
    run = f"{time.time_ns() // 1_000_000 % 10**_DIGITS:0{_DIGITS}d}"
    names = [f"c{run}{number:0{NAME_LENGTH - 1 - _DIGITS}d}" for number in range(_CALLS)]
    calls: dict[str, Sequence[Message]] = {
        **{method: [request] * _CALLS for method, request in reads.items()},
        "GetWorkflow": [workflow] * _CALLS,
        "CreateTask": [task(SCOPE, f"bench.{name}", SCOPE.version) for name in names],
        "CreateExecution": [execution(SCOPE, Shape.SINGLE, name) for name in names],
    }
    channel = _channel(stack, 1)
    try:
        return {f"{method}, p50 ms": await _median(channel, method, requests) for method, requests in calls.items()}
    finally:
        channel.close()


async def _median(channel: Channel, method: str, requests: Sequence[Message]) -> float:
    took = []
    for request in [each.SerializeToString() for each in requests]:
        began = time.perf_counter()
        response = await channel.call(SERVICE + method, request)
        took.append(time.perf_counter() - began)
        check(method, response)
    return percentile(sorted(took), 50) * 1000


async def _at_rate(rate: float, seconds: float, stack: Stack) -> Figures:
    load, used = await _load(stack, seconds, lambda load, at_end: load.at_rate(rate, at_end))
    events, creates = sorted(load.tally.events), sorted(load.tally.creates)
    what = f"{rate:g} events/s"
    return {
        f"{what}: p50 ms": percentile(events, 50) * 1000,
        f"{what}: p99 ms": percentile(events, 99) * 1000,
        f"{what}: CreateExecution p99 ms": percentile(creates, 99) * 1000,
        f"{what}: CPU ms an event": used / load.tally.in_time * 1000,
    }


async def _flat_out(in_flight: int, seconds: float, stack: Stack) -> Figures:
    load, used = await _load(stack, seconds, lambda load, at_end: load.flat_out(in_flight, at_end))
    what = f"flat out, {in_flight} in flight"
    return {
        f"{what}: events/s": load.tally.in_time / seconds,
        f"{what}: CPU ms an event": used / load.tally.in_time * 1000,
    }


async def _load(
    stack: Stack, seconds: float, start: Callable[[Load, Callable[[], None]], Awaitable[None]]
) -> tuple[Load, float]:
    """Run a load and return it with the CPU seconds of the stack until its time was over; exit when a call failed."""
    channel = _channel(stack)
    run = f"{time.time_ns() // 1_000_000 % 10**_DIGITS:0{_DIGITS}d}"
    load = Load(channel, plays(SCOPE, list(Shape)), seconds, run)
    before = after = _cpu(stack)

    def at_end() -> None:
        nonlocal after
        after = _cpu(stack)

    try:
        await start(load, at_end)
    finally:
        channel.close()
    if load.tally.errors:
        raise SystemExit(f"calls failed: {dict(load.tally.errors)}")
    return load, after - before


def _channel(stack: Stack, connections: int = CONNECTIONS) -> Channel:
    return Channel("127.0.0.1", stack.port, connections)


def _cpu(stack: Stack) -> float:
    used = cpu_seconds(stack.target.pids)
    return sum(used.values()) - used[GENERATOR]

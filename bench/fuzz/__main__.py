"""`python -m bench.fuzz`: mutated calls on a sandbox of its own, and what was answered.

Every RPC is called by gRPC and by REST with requests that were good before they were spoiled. No answer may be
INTERNAL, UNKNOWN or an HTTP error that blames the server, none may take long, memory must level out, and afterwards
every list must still be readable.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from itertools import chain
from pathlib import Path

import uvloop

from bench.answers import OK
from bench.entities import SERVICE, RefusedError, Shape, register
from bench.fuzz.calls import Caller, Outcome
from bench.fuzz.findings import Findings, report
from bench.fuzz.requests import Requests
from bench.http2 import Channel
from bench.processes import resident_bytes
from bench.run import CONNECTIONS
from bench.sequences import NAME_LENGTH, Play, play
from bench.stack import PLACE, Stack, running_stack

CALLS = 20_000
_CALLERS = 6
_EXECUTIONS = 12
# Memory is looked at after each of these.
_PARTS = 4
# One call at a time, so that a slow one is the fault of its own request.
_LISTS = (
    "projects", "tasks/{0}", "task_ids/{0}", "workflows/{0}", "workflow_ids/{0}", "launch_plans/{0}",
    "launch_plan_ids/{0}", "active_launch_plans/{0}", "executions/{0}", "named_entities/1/{0}", "named_entities/2/{0}",
    "named_entities/3/{0}", "matchable_attributes?resource_type={1}",
)  # fmt: skip
_PAGE = 100
_RESOURCE_TYPES = 8


def main() -> int:
    """Run once; return the exit code: 1 when there is any problem."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--seed", type=int, default=None, help="of a run that is to come again")
    parser.add_argument("--dir", type=Path, help="folder of the sandbox, which then stays; otherwise one that goes")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    with running_stack(folder=arguments.dir) as stack:
        plays = [play(PLACE, shape) for shape in Shape]
        names = uvloop.run(_prepare(stack, plays))
        findings = _fuzz(stack, plays, names, calls=arguments.calls, seed=seed)
        findings.unreadable += _unreadable(stack, names)
    sys.stdout.write(report(findings, seed))
    return int(bool(findings.problems))


async def _prepare(stack: Stack, plays: list[Play]) -> list[str]:
    """Register what is called for and launch some executions; return their names."""
    names = [f"f{number:0{NAME_LENGTH - 1}d}" for number in range(_EXECUTIONS)]
    channel = Channel("127.0.0.1", stack.port, CONNECTIONS)
    try:
        await register(channel, PLACE, tuple(Shape))
        for number, name in enumerate(names):
            life = plays[number % len(plays)]
            # Each is somewhere in its life.
            steps = life.steps[: len(life.steps) * number // _EXECUTIONS]
            requests = [(SERVICE + "CreateExecution", life.create_for(name.encode()))]
            for path, request in (*requests, *((step.path, step.of(name.encode())) for step in steps)):
                answer = await channel.call(path, request)
                if answer.code != OK:
                    raise RefusedError(f"{path} was answered with code {answer.code}: {answer.message}")
    finally:
        channel.close()
    return names


def _fuzz(stack: Stack, plays: list[Play], names: list[str], *, calls: int, seed: int) -> Findings:
    findings = Findings(memory=[_memory(stack)])
    with ThreadPoolExecutor(_CALLERS) as pool:
        callers: list[tuple[Caller, Requests]] = []
        for number in range(_CALLERS):
            chance = random.Random(f"{seed} {number}")  # noqa: S311  # it must be possible to do it again
            callers.append((Caller(stack.port, chance), Requests(PLACE, plays, names, chance)))
        share = calls // _PARTS // _CALLERS
        for _ in range(_PARTS):
            for outcome in chain.from_iterable(pool.map(partial(_call, share), callers)):
                findings.add(outcome)
            findings.memory.append(_memory(stack))
        for caller, _ in callers:
            caller.close()
    return findings


def _call(number: int, who: tuple[Caller, Requests]) -> list[Outcome]:
    caller, requests = who
    return [caller.spoiled(*requests.any()) for _ in range(number)]


def _memory(stack: Stack) -> Mapping[str, int]:
    return resident_bytes(stack.target.pids)


def _unreadable(stack: Stack, names: list[str]) -> Iterator[str]:
    """Read every list over REST, page by page; yield what does not answer with JSON."""
    caller = Caller(stack.port, random.Random())  # noqa: S311  # nothing is mutated
    place = f"{PLACE.project}/{PLACE.domain}"
    paths = [one.format(place, kind) for one in _LISTS for kind in range(_RESOURCE_TYPES if "{1}" in one else 1)]
    paths += [f"node_executions/{place}/{name}" for name in names]
    for path in paths:
        token = ""
        while True:
            mark = "&" if "?" in path else "?"
            status, body = caller.get(f"/api/v1/{path}{mark}limit={_PAGE}&token={token}")
            try:
                token = str(json.loads(body).get("token", "")) if status == HTTPStatus.OK else ""
            except ValueError:
                status = 0
            if status not in {HTTPStatus.OK, HTTPStatus.NOT_FOUND}:
                yield f"/api/v1/{path} token {token}: HTTP {status}: {body[:200].decode(errors='replace')}"
            if not token:
                break
    caller.close()


if __name__ == "__main__":
    sys.exit(main())

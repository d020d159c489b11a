"""`python -m bench.fuzz`: mutated calls on a sandbox of its own, and a check of the responses.

Every RPC is called by gRPC and by REST with valid requests that were mutated. No response may be INTERNAL, UNKNOWN or
an HTTP error of the server, none may take long, memory must level out, and afterwards every list must still be
readable.
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
from bench.stack import SCOPE, Stack, running_stack

CALLS = 20_000
_CALLERS = 6
_EXECUTIONS = 12
# Memory is measured after each of these parts.
_PARTS = 4
# REST paths with the project-domain or a resource type in them.
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
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to repeat it")
    parser.add_argument("--dir", type=Path, help="folder of the sandbox, which stays then; otherwise a temporary one")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    with running_stack(folder=arguments.dir) as stack:
        plays = [play(SCOPE, shape) for shape in Shape]
        names = uvloop.run(_prepare(stack, plays))
        findings = _fuzz(stack, plays, names, calls=arguments.calls, seed=seed)
        findings.unreadable += _unreadable(stack, names)
    sys.stdout.write(report(findings, seed))
    return int(bool(findings.problems))


async def _prepare(stack: Stack, plays: list[Play]) -> list[str]:
    """Register the entities of the requests and launch some executions; return their names."""
    names = [f"f{number:0{NAME_LENGTH - 1}d}" for number in range(_EXECUTIONS)]
    channel = Channel("127.0.0.1", stack.port, CONNECTIONS)
    try:
        await register(channel, SCOPE, tuple(Shape))
        for number, name in enumerate(names):
            played = plays[number % len(plays)]
            # Each gets as far as its share of its events.
            steps = played.steps[: len(played.steps) * number // _EXECUTIONS]
            requests = [(SERVICE + "CreateExecution", played.create_for(name.encode()))]
            for path, request in (*requests, *((step.path, step.of(name.encode())) for step in steps)):
                response = await channel.call(path, request)
                if response.code != OK:
                    raise RefusedError(f"{path} returned code {response.code}: {response.message}")
    finally:
        channel.close()
    return names


def _fuzz(stack: Stack, plays: list[Play], names: list[str], *, calls: int, seed: int) -> Findings:
    findings = Findings(memory=[_memory(stack)])
    with ThreadPoolExecutor(_CALLERS) as pool:
        callers: list[tuple[Caller, Requests]] = []
        for number in range(_CALLERS):
            rng = random.Random(f"{seed} {number}")  # noqa: S311  # a run must be repeatable
            callers.append((Caller(stack.port, rng), Requests(SCOPE, plays, names, rng)))
        share = calls // _PARTS // _CALLERS
        for _ in range(_PARTS):
            for outcome in chain.from_iterable(pool.map(partial(_call, share), callers)):
                findings.add(outcome)
            findings.memory.append(_memory(stack))
        for caller, _ in callers:
            caller.close()
    return findings


def _call(number: int, pair: tuple[Caller, Requests]) -> list[Outcome]:
    caller, requests = pair
    return [caller.call_mutated(*requests.any()) for _ in range(number)]


def _memory(stack: Stack) -> Mapping[str, int]:
    return resident_bytes(stack.target.pids)


def _unreadable(stack: Stack, names: list[str]) -> Iterator[str]:
    """Read every list over REST, page by page; yield those that do not return JSON."""
    caller = Caller(stack.port, random.Random())  # noqa: S311  # nothing is mutated
    scope = f"{SCOPE.project}/{SCOPE.domain}"
    paths = [path.format(scope, kind) for path in _LISTS for kind in range(_RESOURCE_TYPES if "{1}" in path else 1)]
    paths += [f"node_executions/{scope}/{name}" for name in names]
    for path in paths:
        token = ""
        while True:
            separator = "&" if "?" in path else "?"
            status, body = caller.get(f"/api/v1/{path}{separator}limit={_PAGE}&token={token}")
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

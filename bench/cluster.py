"""`python -m bench.cluster --out FILE`: launches at a rate, without an engine and with the engine `kubernetes`.

Each run is on a fresh sandbox. The first has no engine; the second's executions become resources of a real API server,
with its etcd on this machine, which syncs to disk. The third has no engine, while another process creates as many
resources there. A watch of the API server says when each resource is there. Launches are due at a steady
pace; latencies count from when they are due.
"""

import argparse
import asyncio
import json
import os
import re
import ssl
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from bench.answers import OK
from bench.entities import Shape, execution, register
from bench.http2 import Channel
from bench.load import CREATE
from bench.processes import cpu_seconds
from bench.report import describe_machine, percentile
from bench.sequences import NAME_LENGTH
from bench.stack import SCOPE, Stack, running_stack
from tests.support.cluster_binaries import kubernetes_version
from tests.support.cluster_load import resources_created
from tests.support.flyte_workflows import FLYTE_WORKFLOWS
from tests.support.real_api_servers import ADMIN_TOKEN, RealApiServer, real_api_server

_CONNECTIONS = 4
_RATE, _SECONDS = 100.0, 60.0
# Launches before the measurement, so that caches and connections are there.
_WARM_UP_SECONDS = 5.0
# After the last launch its resource is there within seconds, or never.
_LAST_SECONDS = 60.0
_NAMESPACE = f"{SCOPE.project}-{SCOPE.domain}"
_WORKFLOWS = f"/apis/flyte.lyft.com/v1alpha1/namespaces/{_NAMESPACE}/flyteworkflows"
_NAME = re.compile(rb'"metadata":\{[^{}]*?"name":"([^"]+)"')
# Most the launches may become slower, and the targets from launch to resource, in milliseconds.
_MOST_SLOWER, _TARGET_P50, _TARGET_P99 = 1.2, 250, 1000


@dataclass
class Run:
    """The launches of one run: latencies in seconds, failures, and CPU seconds of each process."""

    title: str
    due: dict[str, float] = field(default_factory=dict)
    launched: dict[str, float] = field(default_factory=dict)
    created: dict[str, float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    cpu: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def launches(self) -> list[float]:
        """Return how long the launches took, sorted."""
        return sorted(self.launched[name] - due for name, due in self.due.items() if name in self.launched)

    def resources(self) -> list[float]:
        """Return how long it took from a launch until its resource was there, sorted."""
        return sorted(self.created[name] - due for name, due in self.due.items() if name in self.created)


async def launch(channel: Channel, run: Run, prefix: str, rate: float, seconds: float) -> None:
    """Launch executions at a rate."""
    start = time.perf_counter()
    calls = []

    async def one(name: str, due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        response = await channel.call(CREATE, execution(SCOPE, Shape.SINGLE, name).SerializeToString())
        if response.code == OK:
            run.launched[name] = time.perf_counter()
        else:
            run.refused.append(f"code {response.code}: {response.message}")

    for number in range(int(rate * seconds)):
        name = f"{prefix}{number:0{NAME_LENGTH - len(prefix)}d}"
        run.due[name] = start + number / rate
        calls.append(asyncio.create_task(one(name, run.due[name])))
    await asyncio.gather(*calls)


async def measure(stack: Stack, title: str, pids: Mapping[str, int], rate: float, seconds: float) -> Run:
    """Launch on a running stack, after a warm-up."""
    channel = Channel("127.0.0.1", stack.port, _CONNECTIONS)
    try:
        await register(channel, SCOPE, [Shape.SINGLE])
        await launch(channel, Run(""), "w", rate, _WARM_UP_SECONDS)
        run = Run(title)
        before, began = cpu_seconds(pids), time.perf_counter()
        await launch(channel, run, "m", rate, seconds)
        run.seconds = time.perf_counter() - began
        after = cpu_seconds(pids)
        run.cpu = {name: after[name] - before[name] for name in after}
    finally:
        channel.close()
    return run


class Watch:
    """When each resource of the namespace was created, by the clock of the latencies."""

    def __init__(self, server: RealApiServer) -> None:
        self.created: dict[str, float] = {}
        request = urllib.request.Request(  # noqa: S310  # the URL is this server's
            f"{server.url}{_WORKFLOWS}?watch=true",
            headers={
                "Authorization": f"Bearer {ADMIN_TOKEN}",
                "Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            },
        )
        context = ssl.create_default_context(cafile=server.ca_file)
        self._response = urllib.request.urlopen(request, context=context)  # noqa: S310  # same
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._response:
            found = _NAME.search(line)
            if found and b'"type":"ADDED"' in line:
                self.created.setdefault(found[1].decode(), time.perf_counter())


@contextmanager
def api_server(folder: Path) -> Iterator[RealApiServer]:
    """Run an API server with the definition and the namespace."""
    with real_api_server(folder / "api", fsync=True) as server:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}}
        server.install(FLYTE_WORKFLOWS, namespace)
        server.wait_for(_WORKFLOWS)
        yield server


@contextmanager
def sandbox_settings(folder: Path, server: RealApiServer | None) -> Iterator[None]:
    """Let sandboxes submit to `server` during the block."""
    file = folder / "settings.toml"
    if server is not None:
        values = ", ".join(f"{name} = {json.dumps(value)}" for name, value in server.settings.items())
        file.write_text(f"clusters = [{{ {values} }}]\n")
        os.environ["SANDBOX_SETTINGS"] = str(file)
    try:
        yield
    finally:
        os.environ.pop("SANDBOX_SETTINGS", None)


def without_engine(rate: float, seconds: float) -> Run:
    """Measure launches of which nothing becomes a resource."""
    with running_stack() as stack:
        return uvloop.run(measure(stack, "engine none", stack.target.pids, rate, seconds))


def with_engine(server: RealApiServer, rate: float, seconds: float) -> Run:
    """Measure launches that become resources of `server`."""
    with running_stack(engine="kubernetes") as stack:
        watch = Watch(server)
        pids = {**stack.target.pids, **server.pids}
        run = uvloop.run(measure(stack, "engine kubernetes", pids, rate, seconds))
        end = time.monotonic() + _LAST_SECONDS
        while not run.due.keys() <= watch.created.keys() and time.monotonic() < end:
            time.sleep(0.2)
        run.created = watch.created
        return run


def busy_without_engine(server: RealApiServer, like: str, rate: float, seconds: float) -> Run:
    """Measure launches without an engine while another process creates as many copies of the resource `like`."""
    with running_stack() as stack, resources_created(server, _NAMESPACE, like, rate):
        pids = {**stack.target.pids, **server.pids}
        return uvloop.run(measure(stack, "engine none, API server busy", pids, rate, seconds))


def report(none: Run, busy: Run, engine: Run, rate: float, seconds: float) -> tuple[str, bool]:
    """Return the report, and whether the targets are met.

    The launches next to a busy API server show which part of the difference is not the engine's: an API server of
    another machine would take none of this one's cores.
    """
    slower, slower_than_busy = (
        percentile(engine.launches(), 99) / percentile(run.launches(), 99) for run in (none, busy)
    )
    p50, p99 = (percentile(engine.resources(), percent) * 1000 for percent in (50, 99))
    missing = len(engine.due) - len(engine.resources())
    met = slower <= _MOST_SLOWER and p50 <= _TARGET_P50 and p99 <= _TARGET_P99 and not missing
    lines = [
        "# Results of `make bench-cluster`",
        "",
        "Launches through the gateway of fresh sandboxes; `bench/cluster.py` documents the measurements.",
        "",
        f"- {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
        *describe_machine(),
        f"- kube-apiserver {kubernetes_version()} and etcd run on this machine, too; etcd syncs to disk",
        f"- {rate:g} launches/s for {seconds:g} s of a workflow with one task",
        f"- targets: launch p99 at most {_MOST_SLOWER:g} times that without an engine",
        f"- targets: from launch to resource p50 {_TARGET_P50} ms, p99 {_TARGET_P99} ms",
        "",
        "| latency, ms | number | p50 | p90 | p99 | max | failed |",
        "|---|---|---|---|---|---|---|",
        _row("launch, engine none", none.launches(), len(none.refused)),
        _row("launch, engine none, API server busy", busy.launches(), len(busy.refused)),
        _row("launch, engine kubernetes", engine.launches(), len(engine.refused)),
        _row("from launch to resource", engine.resources(), missing),
        "",
        f"Launch p99 with the engine is {slower:.1f} times that without.",
        f"It is {slower_than_busy:.1f} times that without next to an API server as busy.",
        "",
        "| cores | engine none | engine none, API server busy | engine kubernetes |",
        "|---|---|---|---|",
    ]
    runs = (none, busy, engine)
    for name in sorted({name for run in runs for name in run.cpu}):
        cells = (f"{run.cpu.get(name, 0.0) / run.seconds:.2f}" for run in runs)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [f"- {refusal}" for refusal in sorted({refusal for run in runs for refusal in run.refused})[:5]]
    return "\n".join([*lines, ""]), met


def _row(what: str, latencies: list[float], failed: int) -> str:
    cells = " | ".join(f"{percentile(latencies, percent) * 1000:.1f}" for percent in (50, 90, 99, 100))
    return f"| {what} | {len(latencies)} | {cells} | {failed} |"


def main() -> int:
    """Run all three; return the exit code: 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file for the report")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="of each run")
    parser.add_argument("--rate", type=float, default=_RATE, help="launches a second")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        with api_server(folder) as server:
            # The API server is there in both runs: an idle one has costs, too.
            with sandbox_settings(folder, None):
                none = without_engine(options.rate, options.seconds)
            with sandbox_settings(folder, server):
                engine = with_engine(server, options.rate, options.seconds)
            with sandbox_settings(folder, None):
                busy = busy_without_engine(server, next(iter(engine.created)), options.rate, options.seconds)
    text, met = report(none, busy, engine, options.rate, options.seconds)
    sys.stdout.write(text)
    options.out.write_text(text)
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())

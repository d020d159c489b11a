"""Runs pods as local processes, from their first containers to the end of their grace period, as a kubelet does."""

import asyncio
import signal
import ssl
import subprocess
import time
from pathlib import Path

import httpx

from tests.support.manifests import KubernetesObject
from tests.support.pods import Container, Node, Pod

ROOT = Path(__file__).parents[2]
# Of a machine that runs a whole release on two cores.
READY_SECONDS = 90.0
_POLL_SECONDS = 0.05


class Kubelet:
    """Runs pods of `node`."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def run(self, pod: Pod) -> None:
        """Run the first containers of a pod to their ends, then start the others, and wait until they are ready."""
        self.node.prepare(pod)
        for container in pod.spec.get("initContainers", ()):
            await self._ended(pod, container)
        for container in pod.spec["containers"]:
            self.node.localize(pod, container)
            pod.running[container["name"]] = self._start(pod, container)
        for container in pod.spec["containers"]:
            await self._ready(pod, container)

    async def complete(self, pod: Pod) -> str:
        """Run all containers of a pod to their ends; return their output."""
        self.node.prepare(pod)
        containers = [self._start(pod, container) for container in pod.spec["containers"]]
        for container in containers:
            await _wait(container)
        return "".join(container.log.read_text() for container in containers)

    async def end(self, pod: Pod) -> None:
        """End a pod as a kubelet does: the hook of each container, SIGTERM, and an error after the grace period."""
        grace = pod.spec.get("terminationGracePeriodSeconds", 30)
        async with asyncio.timeout(grace):
            await asyncio.gather(*(self._stop(pod, container) for container in pod.spec["containers"]))

    def kill(self, pod: Pod) -> None:
        """Kill what runs of a pod."""
        for container in pod.running.values():
            if container.process.poll() is None:
                container.process.send_signal(signal.SIGKILL)
            container.process.wait()

    def _start(self, pod: Pod, container: KubernetesObject) -> Container:
        log = pod.folder / f"{container['name']}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                self.node.command(pod, container),
                env=self.node.environment(pod, container),
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return Container(process, log)

    async def _ended(self, pod: Pod, container: KubernetesObject) -> None:
        await _wait(self._start(pod, container))

    async def _ready(self, pod: Pod, container: KubernetesObject) -> None:
        running = pod.running[container["name"]]
        end = time.monotonic() + READY_SECONDS
        for probe in ("startupProbe", "readinessProbe"):
            while not await self.probe(pod, container, probe):
                problem = "ended" if running.process.poll() is not None else "is not ready"
                in_time = problem != "ended" and time.monotonic() < end
                assert in_time, f"{pod.component} {problem} ({probe}):\n{running.log.read_text()[-4000:]}"
                await asyncio.sleep(_POLL_SECONDS)

    async def probe(self, pod: Pod, container: KubernetesObject, name: str) -> bool:
        """Return whether an HTTP probe of a container succeeds; one that is not there does."""
        if name not in container:
            return True
        get = container[name]["httpGet"]
        port = next(each["containerPort"] for each in container["ports"] if each["name"] == get["port"])
        # As a kubelet, it does not check the certificate.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        timeout = container[name].get("timeoutSeconds", 1)
        try:
            async with httpx.AsyncClient(verify=context, timeout=timeout) as client:
                url = f"{get.get('scheme', 'HTTP').lower()}://{pod.address}:{port}{get['path']}"
                return (await client.get(url)).is_success
        except httpx.HTTPError:
            return False

    async def _stop(self, pod: Pod, container: KubernetesObject) -> None:
        hook = container.get("lifecycle", {}).get("preStop", {})
        if "sleep" in hook:
            await asyncio.sleep(hook["sleep"]["seconds"])
        if "exec" in hook:
            first, *others = [self.node.local(pod, container, part) for part in hook["exec"]["command"]]
            ran = await asyncio.create_subprocess_exec(first, *others, stdout=asyncio.subprocess.PIPE)
            output, _ = await ran.communicate()
            assert ran.returncode == 0, output
        process = pod.running[container["name"]].process
        process.terminate()
        await asyncio.to_thread(process.wait)


async def _wait(container: Container) -> None:
    async with asyncio.timeout(READY_SECONDS):
        status = await asyncio.to_thread(container.process.wait)
    assert status == 0, container.log.read_text()[-4000:]

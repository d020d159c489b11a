"""Pods of rendered objects on one machine: addresses, folders, commands, environments and files as rendered.

It plays what Kubernetes does: volumes are folders, Secrets and ConfigMaps files, each pod has a loopback address of its
own, and the names of Services are replaced by the addresses of their pods. Programs are those of the environment.
`kubelet` runs them.
"""

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.manifests import KubernetesObject, Manifests

_NAME = re.compile(r"(?P<service>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)\.svc:(?P<port>\d+)")
# All addresses of a pod, and its loopback, which only Envoy's admin interface uses. Other loopback addresses are those
# of servers outside of the cluster.
_OWN_ADDRESS = re.compile(r"(?<![\d.])(?:0\.0\.0\.0(?![\d.])|127\.0\.0\.1(?=[:/]9901\b))")
_REFERENCE = re.compile(r"\$\((?P<name>[A-Z_]+)\)")


@dataclass
class Container:
    """A running container."""

    process: subprocess.Popen[bytes]
    log: Path


@dataclass
class Pod:
    """A pod on its own address."""

    component: str
    number: int
    address: str
    spec: Mapping[str, Any]
    folder: Path
    running: dict[str, Container] = field(default_factory=dict)


class Node:
    """A machine on which pods of `manifests` run; `slots` has the most pods of each component at a time.

    The names of Services stand for the addresses of all slots of their component, as programs read them once: a slot
    without a pod is an address that refuses connections.
    """

    def __init__(
        self, folder: Path, manifests: Manifests, slots: Mapping[str, int], programs: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.manifests = manifests
        self.programs = programs
        self.tokens: dict[str, str] = {}
        """Tokens of service accounts by component, in place of the file `token` of a cluster's Secret."""
        self._slots = {
            component: [f"127.77.{row}.{number}" for number in range(1, most + 1)]
            for row, (component, most) in enumerate(slots.items(), 1)
        }

    def pod(self, kind: str, name: str, number: int = 0) -> Pod:
        """Return a pod of a workload, which does not run yet."""
        template = self.manifests.get(kind, name)
        template = template if kind == "Pod" else template["spec"]["template"]
        component = template["metadata"]["labels"]["app.kubernetes.io/component"]
        address = self._slots.get(component, ["127.77.0.1"])[number]
        folder = self.folder / f"{component}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return Pod(component, number, address, template["spec"], folder)

    def upgrade(self, manifests: Manifests) -> None:
        """Replace the objects by those of another revision; passwords that the chart made stay."""
        made = {each["metadata"]["name"] for each in self.manifests.of("Secret")}
        kept = [each for each in manifests.objects if each["kind"] != "Secret" or each["metadata"]["name"] not in made]
        self.manifests = Manifests([*kept, *self.manifests.of("Secret")])

    def address(self, service: str, namespace: str, port: int) -> list[str]:
        """Return host:port of all pods of a Service."""
        found = self.manifests.get("Service", service)
        component = found["spec"]["selector"]["app.kubernetes.io/component"]
        (target,) = (each["targetPort"] for each in found["spec"]["ports"] if each["port"] == port)
        assert found["metadata"]["namespace"] == namespace
        return [f"{address}:{self._port(component, target)}" for address in self._slots[component]]

    def environment(self, pod: Pod, container: KubernetesObject) -> dict[str, str]:
        """Return the environment of a container: that of the image, its sources, then its own variables."""
        made: dict[str, str] = {"PATH": os.environ["PATH"], "TMPDIR": str(pod.folder), "PYTHONUNBUFFERED": "1"}
        for source in container.get("envFrom", ()):
            made |= self._content("Secret", source["secretRef"]["name"])
        for variable in container.get("env", ()):
            if reference := variable.get("valueFrom"):
                key = reference["secretKeyRef"]
                made[variable["name"]] = self._content("Secret", key["name"])[key["key"]]
            else:
                value = _REFERENCE.sub(lambda found: made[found["name"]], variable["value"])
                made[variable["name"]] = self.local(pod, container, value)
        return made

    def local(self, pod: Pod, container: KubernetesObject, text: str) -> str:
        """Return a text with the addresses and folders of this machine."""
        folders = {
            mount["mountPath"]: str(self._volume(pod, mount["name"]))
            for mount in container.get("volumeMounts", ())
            if mount["mountPath"] != "/tmp"  # noqa: S108 - a program's folder for files that it names itself
        }
        longest = sorted(folders, key=len, reverse=True)
        paths = "|".join(map(re.escape, longest)) or "(?!)"
        text = re.sub(
            rf"(?<![\w/.-])(?P<scheme>(?:file://)?)(?P<path>{paths})(?![\w-])",
            lambda m: m["scheme"] + folders[m["path"]],
            text,
        )
        text = _OWN_ADDRESS.sub(pod.address, text)
        return _NAME.sub(lambda m: ",".join(self.address(m["service"], m["namespace"], int(m["port"]))), text)

    def command(self, pod: Pod, container: KubernetesObject) -> list[str]:
        """Return the command line of a container, with the programs of this machine."""
        line: list[str] = container["command"] + container.get("args", [])
        return [self.programs[line[0]], *(self.local(pod, container, part) for part in line[1:])]

    def _port(self, component: str, name: str) -> int:
        for _, pod in self.manifests.pods():
            if pod["metadata"]["labels"].get("app.kubernetes.io/component") == component:
                for container in pod["spec"]["containers"]:
                    for port in container.get("ports", ()):
                        if port["name"] == name:
                            return int(port["containerPort"])
        raise LookupError(f"{component} has no port {name}")

    def _content(self, kind: str, name: str) -> dict[str, str]:
        """Return the content of a Secret or a ConfigMap."""
        found = self.manifests.get(kind, name)
        encoded = found.get("data", {}) if kind == "Secret" else {}
        plain = found.get("stringData", {}) if kind == "Secret" else found.get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in encoded.items()} | dict(plain)

    def _volume(self, pod: Pod, name: str) -> Path:
        """Return the folder of a volume; claims are shared by pods."""
        volume: dict[str, Any] = next((each for each in pod.spec.get("volumes", ()) if each["name"] == name), {})
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        return self.folder / "claims" / claim if claim else pod.folder / name

    def make_folders(self, pod: Pod) -> None:
        """Make the folders of a pod's volumes."""
        containers = [*pod.spec.get("initContainers", ()), *pod.spec["containers"]]
        for name in {mount["name"] for container in containers for mount in container.get("volumeMounts", ())}:
            self._volume(pod, name).mkdir(parents=True, exist_ok=True)

    def prepare(self, pod: Pod) -> None:
        """Make the folders of a pod's volumes, with the files in them."""
        self.make_folders(pod)
        containers = [*pod.spec.get("initContainers", ()), *pod.spec["containers"]]
        # A file is read by one container only, so its texts can have that container's folders.
        for container in containers:
            mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
            for volume in pod.spec.get("volumes", ()):
                if volume["name"] in mounted:
                    for path, text in self._files(volume):
                        token = self.tokens.get(pod.component) if path == "token" else None
                        (pod.folder / volume["name"] / path).write_text(token or self.local(pod, container, text))

    def localize(self, pod: Pod, container: KubernetesObject) -> None:
        """Put the container's folders into the YAML files that first containers have written."""
        empty = {volume["name"] for volume in pod.spec.get("volumes", ()) if "emptyDir" in volume}
        for name in empty & {mount["name"] for mount in container.get("volumeMounts", ())}:
            for file in (pod.folder / name).glob("*.yaml"):
                file.write_text(self.local(pod, container, file.read_text()))

    def _files(self, volume: KubernetesObject) -> Iterator[tuple[str, str]]:
        if "configMap" in volume:
            yield from self._content("ConfigMap", volume["configMap"]["name"]).items()
        elif "secret" in volume:
            content = self._content("Secret", volume["secret"]["secretName"])
            items = volume["secret"].get("items") or [{"key": key, "path": key} for key in content]
            yield from ((item["path"], content[item["key"]]) for item in items)


def programs(**more: str) -> dict[str, str]:
    """Return the programs that containers name, on this machine."""
    return {"python": sys.executable, **more}

"""Rendered objects of the chart, by kind and name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KubernetesObject = Mapping[str, Any]
_POD_TEMPLATES = ("Deployment", "StatefulSet", "Job")


@dataclass(frozen=True)
class Manifests:
    """The objects that Helm rendered, hooks among them."""

    objects: Sequence[KubernetesObject]

    def of(self, kind: str) -> list[KubernetesObject]:
        """Return all objects of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def get(self, kind: str, name: str) -> KubernetesObject:
        """Return an object; raise LookupError."""
        for each in self.of(kind):
            if each["metadata"]["name"] == name:
                return each
        raise LookupError(f"there is no {kind} {name}")

    def pods(self) -> Iterator[tuple[str, KubernetesObject]]:
        """Yield kind/name and the pod's template of each workload, and of pods themselves."""
        for each in self.objects:
            name = f"{each['kind']}/{each['metadata']['name']}"
            if each["kind"] == "Pod":
                yield name, each
            elif each["kind"] in _POD_TEMPLATES:
                yield name, each["spec"]["template"]

    def containers(self) -> Iterator[tuple[str, KubernetesObject]]:
        """Yield kind/name/container and each container, also those that run first."""
        for name, pod in self.pods():
            for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
                yield f"{name}/{container['name']}", container

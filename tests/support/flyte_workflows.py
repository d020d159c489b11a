"""FlyteWorkflow resources on a real API server, as tests read them."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from services.executions.engine.kubernetes.engine import FLYTE_WORKFLOW
from services.kit.errors import ResourceExhausted, Unavailable
from services.kit.kubernetes.client import KubernetesClient, Object
from services.kit.kubernetes.resource_types import ResourceType

NAMESPACES = ResourceType("", "v1", "namespaces", "Namespace", namespaced=False)
SOON_SECONDS = 20.0
# As flyteadmin's charts define it: any object, without validation or a status sub-resource.
FLYTE_WORKFLOWS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "flyteworkflows.flyte.lyft.com"},
    "spec": {
        "group": "flyte.lyft.com",
        "names": {
            "kind": "FlyteWorkflow",
            "plural": "flyteworkflows",
            "singular": "flyteworkflow",
            "shortNames": ["fly"],
        },
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


async def eventually(condition: Callable[[], Awaitable[Any]], seconds: float = SOON_SECONDS) -> Any:
    """Return what `condition` returns as soon as it is true; raise TimeoutError.

    A server that has just started may not respond yet, or not for all types.
    """
    async with asyncio.timeout(seconds):
        while True:
            with suppress(Unavailable, ResourceExhausted):
                if result := await condition():
                    return result
            await asyncio.sleep(0.05)


async def create_namespace(client: KubernetesClient, name: str) -> None:
    """Create a namespace."""
    content = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await client.create(NAMESPACES, "", content)


async def found(client: KubernetesClient, namespace: str, name: str) -> Object | None:
    """Return the resource of an execution; None if there is none."""
    selected = client.list(FLYTE_WORKFLOW, namespace, fields=f"metadata.name={name}")
    return next(iter([item async for item in selected]), None)


async def created(client: KubernetesClient, namespace: str, name: str, seconds: float = SOON_SECONDS) -> Object:
    """Return the resource of an execution as soon as there is one."""
    resource: Object = await eventually(lambda: found(client, namespace, name), seconds)
    return resource


async def is_deleted(client: KubernetesClient, namespace: str, name: str) -> bool:
    """Return whether the resource of an execution is gone, or waits for its engine."""
    resource = await found(client, namespace, name)
    return resource is None or "deletionTimestamp" in resource["metadata"]

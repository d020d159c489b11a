"""The resources of the conformance data on a real API server: stored, and read back unchanged."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.executions.engine.kubernetes.engine import FLYTE_WORKFLOW
from services.kit.kubernetes.client import KubernetesClient
from tests.support.flyte_workflows import create_namespace
from tests.support.real_api_servers import RealApiServer

DATA = Path(__file__).parents[2].parent / "shared/data/compiler/resource"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the conformance data is not there")

GOLDENS = sorted(DATA.glob("*_wf_crd.json"))
NAMESPACE = "goldens"


@pytest.fixture(scope="module")
async def client(api_server: RealApiServer) -> AsyncIterator[KubernetesClient]:
    opened = api_server.client()
    await create_namespace(opened, NAMESPACE)
    yield opened
    await opened.close()


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda path: path.name.removesuffix("_2_wf_crd.json"))
async def test_resource_is_read_back_unchanged(golden: Path, client: KubernetesClient) -> None:
    name = f"g{GOLDENS.index(golden)}"
    resource = _read(golden)
    # Go's objects have the kind in lower case, and their names are all the same.
    resource |= {"kind": FLYTE_WORKFLOW.kind}
    resource["metadata"] |= {"name": name, "namespace": NAMESPACE}
    await client.create(FLYTE_WORKFLOW, NAMESPACE, resource)
    stored = await client.get(FLYTE_WORKFLOW, NAMESPACE, name)
    assert {key: value for key, value in stored.items() if key != "metadata"} == {
        key: value for key, value in resource.items() if key != "metadata"
    }
    assert stored["metadata"]["labels"] == resource["metadata"]["labels"]


def _read(golden: Path) -> dict[str, Any]:
    resource: dict[str, Any] = json.loads(golden.read_text())
    return resource

"""GetData for flyte:// URLs (executions.md#getdata)."""

from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.dataproxy_pb2 import GetDataRequest, GetDataResponse
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub

from tests.support.entities import DOMAIN, PROJECT, literals
from tests.support.execution_rows import execution, node, stored, task
from tests.support.parts import Parts, service
from tests.support.refusals import refused

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
INPUTS, OUTPUTS, RETRIED = literals(a=1), literals(o0=2, o1="é"), literals(o0=3)


def url(rest: str, name: str = "artifacts") -> GetDataRequest:
    return GetDataRequest(flyte_url=f"flyte://v1/{PROJECT}/{DOMAIN}/{name}/{rest}")


@pytest.fixture(scope="module")
async def proxy(
    served: Any, admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> DataProxyServiceStub:
    """Store an execution with a node that has inputs, outputs, a deck and two attempts of its task."""
    assert admin
    inputs = stored(objects, "artifacts/inputs", INPUTS.SerializeToString())
    outputs = stored(objects, "artifacts/outputs", OUTPUTS.SerializeToString())
    deck = stored(objects, "artifacts/deck.html", b"<html>deck</html>")
    await execution(database, "artifacts")
    closure = NodeExecutionClosure(output_uri=outputs, deck_uri=deck)
    await node(database, "artifacts", "n0", input_uri=inputs, closure=closure)
    lost = NodeExecutionClosure(output_uri=f"file://{objects}/lost", deck_uri=f"file://{objects}/lost.html")
    await node(database, "artifacts", "n1", closure=lost)
    await task(database, "artifacts", "n0", closure=TaskExecutionClosure(output_uri=outputs))
    await task(database, "artifacts", "n0", retry_attempt=1, closure=TaskExecutionClosure(output_data=RETRIED))
    return DataProxyServiceStub(served.channel)


async def test_get_data_returns_all_inputs_or_outputs_or_one_literal(proxy: DataProxyServiceStub) -> None:
    for rest, expected in {
        "n0/i": GetDataResponse(literal_map=INPUTS),
        "n0/o": GetDataResponse(literal_map=OUTPUTS),
        "n0/0/o": GetDataResponse(literal_map=OUTPUTS),
        "n0/1/o": GetDataResponse(literal_map=RETRIED),
        "n0/1/i": GetDataResponse(literal_map={}),
        "n1/i": GetDataResponse(literal_map={}),
        "n0/o/o1": GetDataResponse(literal=OUTPUTS.literals["o1"]),
        "n0/1/o/o0": GetDataResponse(literal=RETRIED.literals["o0"]),
    }.items():
        assert await proxy.GetData(url(rest)) == expected, rest


async def test_get_data_of_a_deck_is_a_signed_url(proxy: DataProxyServiceStub) -> None:
    response = await proxy.GetData(url("n0/d"))
    assert response.WhichOneof("data") == "pre_signed_urls"
    assert response.pre_signed_urls.HasField("expires_at")
    assert "artifacts/deck.html" in response.pre_signed_urls.signed_url[0]


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (GetDataRequest(), INVALID, "failed to validate resolve artifact request"),
        (GetDataRequest(flyte_url="flyte://v1/p/d/e"), INVALID, "failed to parse artifact url"),
        (url("n0/0/d"), INVALID, "deck type cannot be specified with a retry attempt"),
        (url("n9/o"), MISSING, "missing entity of type node execution"),
        (url("n0/o", "never"), MISSING, "missing entity of type node execution"),
        (url("n9/d"), INVALID, "failed to find node execution"),
        (url("n1/d"), MISSING, "object not found"),
        (url("n0/7/o"), INVALID, "no task executions were listed"),
        (url("n9/0/o"), INVALID, "no task executions were listed"),
        (url("n0/o/o9"), INVALID, "name [o9] not found in"),
        (url("n0/i/o0"), INVALID, "name [o0] not found in"),
        (url("n1/o"), MISSING, "is gone: file://"),
    ],
)
async def test_get_data_of_missing_data_is_refused(
    request_: GetDataRequest, code: grpc.StatusCode, message: str, proxy: DataProxyServiceStub
) -> None:
    await refused(proxy.GetData(request_), code, message)


async def test_get_data_of_large_data_is_a_signed_url(parts: Parts, objects: Path) -> None:
    outputs = stored(objects, "artifacts/large", OUTPUTS.SerializeToString())
    settings = {
        "objects_url": f"file://{objects}",
        "signing_key": "key",
        "signed_data_urls": True,
        "inline_data_max_bytes": 5,
    }
    async with (
        service("executions", parts, "artifacts_small", **settings) as running,
        await psycopg.AsyncConnection.connect(running.settings.database_url, autocommit=True) as connection,
    ):
        await execution(connection, "artifacts")
        await node(connection, "artifacts", "n0", closure=NodeExecutionClosure(output_uri=outputs))
        proxy = DataProxyServiceStub(running.channel)
        response = await proxy.GetData(url("n0/o"))
        assert "artifacts/large" in response.pre_signed_urls.signed_url[0]
        await refused(proxy.GetData(url("n0/o/o0")), grpc.StatusCode.RESOURCE_EXHAUSTED, "too large")

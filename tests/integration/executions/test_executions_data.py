"""Inputs and outputs of executions and nodes: inline, signed, missing and unreadable."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import psycopg
from flyteidl.admin.execution_pb2 import (
    ExecutionClosure,
    ExecutionRecoverRequest,
    ExecutionRelaunchRequest,
    WorkflowExecutionGetDataRequest,
)
from flyteidl.admin.node_execution_pb2 import (
    GetDynamicNodeWorkflowRequest,
    NodeExecutionClosure,
    NodeExecutionGetDataRequest,
)
from flyteidl.admin.task_execution_pb2 import (
    TaskExecutionClosure,
    TaskExecutionGetDataRequest,
)
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.dataproxy_pb2 import GetDataRequest
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub

from tests.support.entities import DOMAIN, PROJECT, identifier, literals
from tests.support.execution_rows import execution, node, stored, task
from tests.support.executions import execution_id, node_id, task_id
from tests.support.parts import Parts, Served, service
from tests.support.refusals import refused


async def test_data_is_answered_inline(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    inputs = stored(objects, "data/inputs", literals(a=1).SerializeToString())
    outputs = stored(objects, "data/outputs", literals(o=2).SerializeToString())
    closure = ExecutionClosure(outputs={"uri": outputs})
    await execution(database, "data", inputs_uri=inputs, closure=closure)
    found = await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id("data")))
    assert (found.full_inputs, found.full_outputs) == (literals(a=1), literals(o=2))
    assert found.HasField("inputs")
    assert found.HasField("outputs")


async def test_without_data_maps_are_present_and_empty(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await execution(database, "nodata")
    await node(database, "nodata", "n0")
    await task(database, "nodata", "n0")
    for found in (
        await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id("nodata"))),
        await admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=node_id("nodata", "n0"))),
        await admin.GetTaskExecutionData(TaskExecutionGetDataRequest(id=task_id("nodata", "n0"))),
    ):
        assert all(found.HasField(field) for field in ("inputs", "outputs", "full_inputs", "full_outputs"))


GONE = (
    "file://{objects}/nowhere",
    "file://{objects}/broken",
    "file://{objects}/broken-large",
    "s3://other/outputs",
    "file://{objects}/folder",
    "\x00",
)


async def test_data_that_is_gone_hides_nothing_else(
    served: Served, admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    stored(objects, "broken", b"\xff\xff")
    stored(objects, "broken-large", b"\xff" * 1_000_000)
    inputs = stored(objects, "folder/inputs", literals(a=1).SerializeToString())
    proxy = DataProxyServiceStub(served.channel)
    before = await missed(served)
    for number, form in enumerate(GONE):
        name, uri = f"gone{number}", form.format(objects=objects)
        await execution(database, name, inputs_uri=inputs, closure=ExecutionClosure(outputs={"uri": uri}))
        dynamic = {"dynamic_workflow_remote_closure_reference": uri} if "\x00" not in uri else {}
        of_node = NodeExecutionClosure(output_uri=uri, deck_uri=uri)
        await node(database, name, "n0", input_uri=inputs, closure=of_node, **dynamic)
        await task(database, name, "n0", input_uri=inputs, closure=TaskExecutionClosure(output_uri=uri))
        for found in (
            await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id(name))),
            await admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=node_id(name, "n0"))),
            await admin.GetTaskExecutionData(TaskExecutionGetDataRequest(id=task_id(name, "n0"))),
        ):
            assert found.full_inputs == literals(a=1)
            # An engine that recovers takes a map that is there for the truth (executions.md 6.3).
            assert not found.HasField("full_outputs")
            assert (found.HasField("outputs"), found.outputs.url) == (True, "")
        base = f"flyte://v1/{PROJECT}/{DOMAIN}/{name}/n0"
        assert (await proxy.GetData(GetDataRequest(flyte_url=f"{base}/i"))).literal_map == literals(a=1)
        code = grpc.StatusCode.NOT_FOUND
        await refused(proxy.GetData(GetDataRequest(flyte_url=f"{base}/o")), code, "is gone")
        if dynamic:
            request = GetDynamicNodeWorkflowRequest(id=node_id(name, "n0"))
            await refused(admin.GetDynamicNodeWorkflow(request), code, "is gone")
        if "broken" not in uri:
            await refused(proxy.GetData(GetDataRequest(flyte_url=f"{base}/d")), code, "object not found")
    assert await missed(served) >= before + 4 * len(GONE)


async def missed(served: Served) -> float:
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"{served.http_url}/metrics")).text
    return sum(
        float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("flyteplane_objects_missed_t")
    )


async def test_what_has_lost_its_inputs_cannot_run_again(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    await execution(database, "unfed", user_inputs_uri=f"file://{objects}/nowhere")
    for call in (
        admin.RelaunchExecution(ExecutionRelaunchRequest(id=execution_id("unfed"))),
        admin.RecoverExecution(ExecutionRecoverRequest(id=execution_id("unfed"))),
    ):
        await refused(call, grpc.StatusCode.FAILED_PRECONDITION, "are gone")


@contextmanager
def taken_away(folder: Path) -> Iterator[None]:
    elsewhere = folder.rename(folder.with_name("unmounted"))
    yield
    elsewhere.rename(folder)


async def test_a_store_that_is_down_is_unavailable(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    uri = stored(objects, "away", literals(a=1).SerializeToString())
    await execution(database, "away", inputs_uri=uri, closure=ExecutionClosure(outputs={"uri": uri}))
    request = WorkflowExecutionGetDataRequest(id=execution_id("away"))
    with taken_away(objects):
        await refused(admin.GetExecutionData(request), grpc.StatusCode.UNAVAILABLE)
    assert (await admin.GetExecutionData(request)).full_outputs == literals(a=1)


async def test_signed_urls_stand_beside_small_data_and_in_place_of_large(parts: Parts, objects: Path) -> None:
    small, large = literals(a=1), literals(a=1, b="x" * 100)
    async with (
        service(
            "executions",
            parts,
            "signed_executions",
            objects_url=f"file://{objects}",
            signing_key="key",
            signed_data_urls=True,
            inline_data_max_bytes=50,
        ) as running,
        await psycopg.AsyncConnection.connect(running.settings.database_url, autocommit=True) as database,
    ):
        inputs = stored(objects, "signed/inputs", small.SerializeToString())
        outputs = stored(objects, "signed/outputs", large.SerializeToString())
        await execution(database, "signed", inputs_uri=inputs, closure=ExecutionClosure(outputs={"uri": outputs}))
        await execution(database, "unsigned", closure=ExecutionClosure(output_data=large))
        admin = AdminServiceStub(running.channel)
        found = await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id("signed")))
        of_values = await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id("unsigned")))
    assert found.inputs.bytes == small.ByteSize()
    assert found.inputs.url.startswith("http://localhost:30080/objects/signed/inputs?")
    assert found.full_inputs == small
    assert found.outputs.bytes == large.ByteSize()
    assert found.outputs.url
    assert not found.HasField("full_outputs")
    assert not of_values.HasField("full_outputs")
    assert of_values.HasField("full_inputs")


async def test_a_nodes_data_comes_with_its_dynamic_workflow_and_urls(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    compiled = CompiledWorkflowClosure()
    compiled.primary.template.id.CopyFrom(identifier(ResourceType.WORKFLOW, "dyn"))
    await execution(database, "dynamic")
    await node(
        database,
        "dynamic",
        "n0",
        closure=NodeExecutionClosure(output_data=literals(o=1), deck_uri="deck", dynamic_job_spec_uri="spec"),
        dynamic_workflow_remote_closure_reference=stored(objects, "closure", compiled.SerializeToString()),
    )
    await task(database, "dynamic", "n0", closure=TaskExecutionClosure(output_data=literals(o=2)), retry_attempt=3)
    found = await admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=node_id("dynamic", "n0")))
    assert found.full_outputs == literals(o=1)
    assert found.dynamic_workflow.id == compiled.primary.template.id
    assert found.dynamic_workflow.compiled_workflow == compiled
    assert found.dynamic_workflow.dynamic_job_spec_uri == "spec"
    base = f"flyte://v1/{PROJECT}/{DOMAIN}/dynamic/n0"
    urls = found.flyte_urls
    assert [urls.inputs, urls.outputs, urls.deck] == [f"{base}/i", f"{base}/o", f"{base}/d"]
    alone = await admin.GetDynamicNodeWorkflow(GetDynamicNodeWorkflowRequest(id=node_id("dynamic", "n0")))
    assert alone.compiled_workflow == compiled
    of_task = await admin.GetTaskExecutionData(TaskExecutionGetDataRequest(id=task_id("dynamic", "n0", attempt=3)))
    assert of_task.full_outputs == literals(o=2)
    assert (of_task.flyte_urls.outputs, of_task.flyte_urls.deck) == (f"{base}/3/o", "")


async def test_a_plain_node_has_no_dynamic_workflow(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await execution(database, "plain")
    await node(database, "plain", "n0")
    request = GetDynamicNodeWorkflowRequest(id=node_id("plain", "n0"))
    code = grpc.StatusCode.NOT_FOUND
    await refused(admin.GetDynamicNodeWorkflow(request), code, "node does not contain dynamic workflow")

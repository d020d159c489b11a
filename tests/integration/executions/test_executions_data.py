"""Inputs and outputs of executions and nodes: inline, signed, missing and unreadable."""

import asyncio
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


async def test_data_is_returned_inline(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    inputs = stored(objects, "data/inputs", literals(a=1).SerializeToString())
    outputs = stored(objects, "data/outputs", literals(o=2).SerializeToString())
    closure = ExecutionClosure(outputs={"uri": outputs})
    await execution(database, "data", inputs_uri=inputs, closure=closure)
    response = await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id("data")))
    assert (response.full_inputs, response.full_outputs) == (literals(a=1), literals(o=2))
    assert response.HasField("inputs")
    assert response.HasField("outputs")


async def test_small_data_is_read_from_the_store_once(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    small, large = literals(a=1), literals(o="x" * 100_000)
    inputs = stored(objects, "twice/inputs", small.SerializeToString())
    outputs = stored(objects, "twice/outputs", large.SerializeToString())
    await execution(database, "twice", inputs_uri=inputs, closure=ExecutionClosure(outputs={"uri": outputs}))
    request = WorkflowExecutionGetDataRequest(id=execution_id("twice"))
    response = await admin.GetExecutionData(request)
    assert (response.full_inputs, response.full_outputs) == (small, large)
    for uri in (inputs, outputs):
        await asyncio.to_thread(Path(uri.removeprefix("file://")).unlink)
    response = await admin.GetExecutionData(request)
    assert response.full_inputs == small
    assert not response.HasField("full_outputs")


async def test_maps_without_data_are_present_and_empty(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await execution(database, "nodata")
    await node(database, "nodata", "n0")
    await task(database, "nodata", "n0")
    for response in (
        await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id("nodata"))),
        await admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=node_id("nodata", "n0"))),
        await admin.GetTaskExecutionData(TaskExecutionGetDataRequest(id=task_id("nodata", "n0"))),
    ):
        assert all(response.HasField(field) for field in ("inputs", "outputs", "full_inputs", "full_outputs"))


GONE = (
    "file://{objects}/nowhere",
    "file://{objects}/broken",
    "file://{objects}/broken-large",
    "s3://other/outputs",
    "file://{objects}/folder",
    "\x00",
)


async def test_data_that_is_gone_does_not_hide_other_data(
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
        for response in (
            await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id(name))),
            await admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=node_id(name, "n0"))),
            await admin.GetTaskExecutionData(TaskExecutionGetDataRequest(id=task_id(name, "n0"))),
        ):
            assert response.full_inputs == literals(a=1)
            # The engine's recovery takes a present map for complete.
            # See executions.md#presence-of-full-inputs-and-outputs.
            assert not response.HasField("full_outputs")
            assert (response.HasField("outputs"), response.outputs.url) == (True, "")
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


async def test_execution_whose_inputs_are_gone_cannot_run_again(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    await execution(database, "unfed", user_inputs_uri=f"file://{objects}/nowhere")
    for call in (
        admin.RelaunchExecution(ExecutionRelaunchRequest(id=execution_id("unfed"))),
        admin.RecoverExecution(ExecutionRecoverRequest(id=execution_id("unfed"))),
    ):
        await refused(call, grpc.StatusCode.FAILED_PRECONDITION, "are gone")


@contextmanager
def moved_away(folder: Path) -> Iterator[None]:
    elsewhere = folder.rename(folder.with_name("unmounted"))
    yield
    elsewhere.rename(folder)


async def test_object_store_that_is_down_is_unavailable(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    uri = stored(objects, "away", literals(a=1).SerializeToString())
    await execution(database, "away", inputs_uri=uri, closure=ExecutionClosure(outputs={"uri": uri}))
    request = WorkflowExecutionGetDataRequest(id=execution_id("away"))
    with moved_away(objects):
        await refused(admin.GetExecutionData(request), grpc.StatusCode.UNAVAILABLE)
    assert (await admin.GetExecutionData(request)).full_outputs == literals(a=1)


async def test_signed_urls_come_with_small_data_and_instead_of_large_data(parts: Parts, objects: Path) -> None:
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
        signed = await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id("signed")))
        of_values = await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id("unsigned")))
    assert signed.inputs.bytes == small.ByteSize()
    assert signed.inputs.url.startswith("http://localhost:30080/objects/signed/inputs?")
    assert signed.full_inputs == small
    assert signed.outputs.bytes == large.ByteSize()
    assert signed.outputs.url
    assert not signed.HasField("full_outputs")
    assert not of_values.HasField("full_outputs")
    assert of_values.HasField("full_inputs")


async def test_data_of_a_node_comes_with_its_dynamic_workflow_and_urls(
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
    of_node = await admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=node_id("dynamic", "n0")))
    assert of_node.full_outputs == literals(o=1)
    assert of_node.dynamic_workflow.id == compiled.primary.template.id
    assert of_node.dynamic_workflow.compiled_workflow == compiled
    assert of_node.dynamic_workflow.dynamic_job_spec_uri == "spec"
    base = f"flyte://v1/{PROJECT}/{DOMAIN}/dynamic/n0"
    urls = of_node.flyte_urls
    assert [urls.inputs, urls.outputs, urls.deck] == [f"{base}/i", f"{base}/o", f"{base}/d"]
    dynamic = await admin.GetDynamicNodeWorkflow(GetDynamicNodeWorkflowRequest(id=node_id("dynamic", "n0")))
    assert dynamic.compiled_workflow == compiled
    of_task = await admin.GetTaskExecutionData(TaskExecutionGetDataRequest(id=task_id("dynamic", "n0", attempt=3)))
    assert of_task.full_outputs == literals(o=2)
    assert (of_task.flyte_urls.outputs, of_task.flyte_urls.deck) == (f"{base}/3/o", "")


async def test_dynamic_workflow_without_an_id_is_returned_and_one_without_a_primary_is_not_found(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any], objects: Path
) -> None:
    compiled = CompiledWorkflowClosure()
    compiled.primary.template.nodes.add(id="n")
    await execution(database, "odd_dynamic")
    for name, closure in (("unnamed", compiled), ("empty", CompiledWorkflowClosure())):
        uri = stored(objects, name, closure.SerializeToString())
        await node(database, "odd_dynamic", name, dynamic_workflow_remote_closure_reference=uri)
    dynamic = await admin.GetDynamicNodeWorkflow(GetDynamicNodeWorkflowRequest(id=node_id("odd_dynamic", "unnamed")))
    assert dynamic.compiled_workflow == compiled
    data = await admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=node_id("odd_dynamic", "unnamed")))
    assert data.dynamic_workflow.compiled_workflow == compiled
    assert not data.dynamic_workflow.HasField("id")
    request = GetDynamicNodeWorkflowRequest(id=node_id("odd_dynamic", "empty"))
    await refused(admin.GetDynamicNodeWorkflow(request), grpc.StatusCode.NOT_FOUND, "has no primary workflow")
    data = await admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=node_id("odd_dynamic", "empty")))
    assert not data.HasField("dynamic_workflow")


async def test_plain_node_has_no_dynamic_workflow(
    admin: AdminServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    await execution(database, "plain")
    await node(database, "plain", "n0")
    request = GetDynamicNodeWorkflowRequest(id=node_id("plain", "n0"))
    code = grpc.StatusCode.NOT_FOUND
    await refused(admin.GetDynamicNodeWorkflow(request), code, "node does not contain dynamic workflow")

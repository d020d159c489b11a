"""The play engine's events on the real event path: whole executions, also nested and failing ones."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflow, CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import Binding, BindingData, LiteralMap
from flyteidl.core.workflow_pb2 import Node
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from deploy.sandbox.engine.graph.node_ids import Parent, unique_id
from tests.support.engine import Dynamic, Engine, TaskFunction
from tests.support.engine_calls import WorkflowAborted
from tests.support.event_path import Executions
from tests.support.literals import python_values, to_literals
from tests.support.parts import Parts, service


def identifier(kind: ResourceType, name: str) -> Identifier:
    return Identifier(resource_type=kind, project="p", domain="d", name=name, version="v")


def promise(var: str, node: str, output: str) -> Binding:
    return Binding(var=var, binding=BindingData(promise={"node_id": node, "var": output}))


def task_node(node: str, task: str, *inputs: Binding) -> Node:
    return Node(id=node, task_node={"reference_id": identifier(ResourceType.TASK, task)}, inputs=inputs)


def workflow(name: str, nodes: list[Node], *outputs: Binding) -> CompiledWorkflow:
    boundary = [Node(id="start-node"), Node(id="end-node")]
    return CompiledWorkflow(
        template={
            "id": identifier(ResourceType.WORKFLOW, name),
            "nodes": [*reversed(nodes), *boundary],
            "outputs": outputs,
        }
    )


def compiled(
    primary: CompiledWorkflow, *tasks: str, subs: tuple[CompiledWorkflow, ...] = ()
) -> CompiledWorkflowClosure:
    """Return a closure whose tasks may be retried once."""
    retried = {"retries": {"retries": 1}}
    templates = [{"id": identifier(ResourceType.TASK, name), "type": "python-task"} for name in tasks]
    return CompiledWorkflowClosure(
        primary=primary,
        sub_workflows=subs,
        tasks=[CompiledTask(template={**template, "metadata": retried}) for template in templates],
    )


CHAIN = workflow(
    "chain",
    [task_node("n0", "double", promise("x", "", "x")), task_node("n1", "double", promise("x", "n0", "o"))],
    promise("o", "n1", "o"),
)


def double(x: int) -> Mapping[str, Any]:
    return {"o": 2 * x}


@pytest.fixture(scope="module")
async def executions(parts: Parts) -> Executions:
    return await Executions.migrated(parts, "test_engine")


@pytest.fixture(scope="module")
async def admin(parts: Parts, executions: Executions) -> AsyncIterator[AdminServiceStub]:
    objects_url = executions.objects.uri()
    async with executions.replica(), service("events", parts, "test_engine_events", objects_url=objects_url) as running:
        yield AdminServiceStub(running.channel)


async def play(
    admin: AdminServiceStub,
    executions: Executions,
    closure: CompiledWorkflowClosure,
    functions: Mapping[str, TaskFunction],
    *,
    pod_reasons: int = 0,
) -> tuple[str, Engine, LiteralMap | None]:
    name = executions.create()
    engine = Engine(admin, executions.objects, functions, pod_reasons)
    execution = WorkflowExecutionIdentifier(project="p", domain="d", name=name)
    return name, engine, await engine.run(execution, closure, to_literals({"x": 3}))


async def test_chain_of_tasks_computes_its_outputs(admin: AdminServiceStub, executions: Executions) -> None:
    name, engine, outputs = await play(admin, executions, compiled(CHAIN, "double"), {"double": double}, pod_reasons=2)
    assert outputs is not None
    assert python_values(outputs) == {"o": 12}
    assert dict(engine.calls.sent) == {
        "WorkflowExecutionEventRequest": 3,
        "NodeExecutionEventRequest": 9,
        "TaskExecutionEventRequest": 10,
    }
    ((stored,),) = executions.rows("executions", "closure", name)
    closure = ExecutionClosure.FromString(stored)  # type: ignore[arg-type]  # a row of unknown types
    assert LiteralMap.FromString(await executions.objects.get(closure.outputs.uri)) == outputs
    assert closure.HasField("duration")
    nodes = executions.rows("node_executions", "node_id, phase, started_at IS NOT NULL", name)
    assert nodes == [
        ("start-node", "SUCCEEDED", False),
        ("n0", "SUCCEEDED", True),
        ("n1", "SUCCEEDED", True),
        ("end-node", "SUCCEEDED", False),
    ]
    assert executions.rows("task_executions", "phase, phase_version", name) == [("SUCCEEDED", 0)] * 2


async def test_failing_task_is_retried_and_then_fails_the_execution(
    admin: AdminServiceStub, executions: Executions
) -> None:
    def broken(x: int) -> Mapping[str, Any]:
        raise ValueError(f"no {x}")

    name, _, outputs = await play(admin, executions, compiled(CHAIN, "double"), {"double": broken})
    assert outputs is None
    assert executions.rows("executions", "phase, error_kind, error_code", name) == [("FAILED", "USER", "USER:Unknown")]
    assert executions.rows("node_executions", "node_id, phase, error_kind", name)[1:] == [("n0", "FAILED", "USER")]
    assert executions.rows("task_executions", "retry_attempt, phase", name) == [(0, "FAILED"), (1, "FAILED")]


async def test_sub_workflow_runs_below_its_node(admin: AdminServiceStub, executions: Executions) -> None:
    node = Node(
        id="sub",
        workflow_node={"sub_workflow_ref": identifier(ResourceType.WORKFLOW, "chain")},
        inputs=[promise("x", "", "x")],
    )
    outer = workflow("outer", [node], promise("o", "sub", "o"))
    closure = compiled(outer, "double", subs=(CHAIN,))
    name, _, outputs = await play(admin, executions, closure, {"double": double})
    assert outputs is not None
    assert python_values(outputs) == {"o": 12}
    rows = executions.rows("node_executions", "id, node_id, parent_id, phase", name)
    ids = {row[1]: row[0] for row in rows}
    nested = [row for row in rows if row[2] is not None]
    assert {row[1] for row in nested} == {
        unique_id(Parent("sub", 0), spec) for spec in ("start-node", "n0", "n1", "end-node")
    }
    assert {row[2] for row in nested} == {ids["sub"]}
    assert {row[3] for row in rows} == {"SUCCEEDED"}


async def test_dynamic_task_runs_the_workflow_that_it_made(admin: AdminServiceStub, executions: Executions) -> None:
    def make(x: int) -> Dynamic:
        assert x == 3
        return Dynamic(compiled(CHAIN, "double"))

    outer = workflow("outer", [task_node("dyn", "make", promise("x", "", "x"))], promise("o", "dyn", "o"))
    name, _, outputs = await play(admin, executions, compiled(outer, "make"), {"double": double, "make": make})
    assert outputs is not None
    assert python_values(outputs) == {"o": 12}
    columns = "node_id, closure, dynamic_workflow_remote_closure_reference"
    (row,) = [row for row in executions.rows("node_executions", columns, name) if row[0] == "dyn"]
    closure = NodeExecutionClosure.FromString(row[1])  # type: ignore[arg-type]  # a row of unknown types
    assert closure.dynamic_job_spec_uri
    stored = CompiledWorkflowClosure.FromString(await executions.objects.get(str(row[2])))
    assert stored.primary.template.id.name == "chain"


async def test_map_task_is_one_attempt_with_a_resource_per_subtask(
    admin: AdminServiceStub, executions: Executions
) -> None:
    mapped = Node(
        id="map",
        array_node={"node": task_node("inner", "double")},
        inputs=[Binding(var="x", binding=BindingData(collection={"bindings": [promise("", "", "x").binding] * 3}))],
    )
    outer = workflow("outer", [mapped], promise("o", "map", "o"))
    name, _, outputs = await play(admin, executions, compiled(outer, "double"), {"double": double})
    assert outputs is not None
    assert python_values(outputs) == {"o": [6, 6, 6]}
    ((stored,),) = executions.rows("task_executions", "closure", name)
    closure = TaskExecutionClosure.FromString(stored)  # type: ignore[arg-type]  # a row of unknown types
    resources = closure.metadata.external_resources
    assert [(item.index, item.phase, item.external_id) for item in resources] == [
        (i, 3, f"pod-n{i}-0") for i in range(3)
    ]


async def test_unknown_execution_is_aborted_at_once(admin: AdminServiceStub, executions: Executions) -> None:
    engine = Engine(admin, executions.objects, {"double": double})
    execution = WorkflowExecutionIdentifier(project="p", domain="d", name="unknown")
    with pytest.raises(WorkflowAborted, match="ExecutionNotFound"):
        await engine.run(execution, compiled(CHAIN, "double"), LiteralMap())

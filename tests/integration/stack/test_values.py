"""Values and configurations in every method that accepts them: valid ones are accepted, others INVALID_ARGUMENT."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
import pytest
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import MatchingAttributes, WorkflowExecutionConfig
from flyteidl.admin.signal_pb2 import SignalGetOrCreateRequest, SignalSetRequest
from flyteidl.core.identifier_pb2 import Identifier, SignalIdentifier
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.types_pb2 import LiteralType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.signal_pb2_grpc import SignalServiceStub

from tests.support import entities
from tests.support.attributes import LEVELS, get, put
from tests.support.configs import BAD, configured
from tests.support.entities import DOMAIN, PROJECT, promise, task_node
from tests.support.executions import execution_id
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox
from tests.support.values import FITTING, FOREIGN_COLORS, OTHERS

INVALID = grpc.StatusCode.INVALID_ARGUMENT
Check = Callable[[AdminServiceStub, SignalServiceStub, LiteralType, Literal], Awaitable[None]]


def launch(target: Identifier, value: Literal | None = None) -> ExecutionCreateRequest:
    inputs = LiteralMap(literals={} if value is None else {"x": value})
    return ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=ExecutionSpec(launch_plan=target), inputs=inputs)


async def registered(admin: AdminServiceStub, declared: LiteralType, name: str) -> Identifier:
    """Register a task with the input `x`, and a workflow of it under the same name."""
    task = entities.task(name, {"x": declared}, {})
    await admin.CreateTask(task)
    node = task_node("n0", name, promise("x", "", "x"))
    await admin.CreateWorkflow(entities.workflow(name, {"x": declared}, {}, [node], []))
    return task.id


async def accepted(admin: AdminServiceStub, signals: SignalServiceStub, declared: LiteralType, value: Literal) -> None:
    name = f"values.{uuid4().hex}"
    task = await registered(admin, declared, name)
    await admin.CreateExecution(launch(task, value))
    plans = (
        entities.launch_plan(f"{name}.default", name, {"x": (declared, value)}),
        entities.launch_plan(f"{name}.fixed", name, fixed=LiteralMap(literals={"x": value})),
    )
    for plan in plans:
        await admin.CreateLaunchPlan(plan)
        await admin.CreateExecution(launch(plan.id))
    signal = SignalIdentifier(signal_id=name, execution_id=execution_id("values"))
    request = SignalGetOrCreateRequest(id=signal, type=declared)
    await signals.GetOrCreateSignal(request)
    await signals.SetSignal(SignalSetRequest(id=signal, value=value))
    assert (await signals.GetOrCreateSignal(request)).value == value


async def refused_everywhere(
    admin: AdminServiceStub, signals: SignalServiceStub, declared: LiteralType, value: Literal
) -> None:
    name = f"values.{uuid4().hex}"
    task = await registered(admin, declared, name)
    await refused(admin.CreateExecution(launch(task, value)), INVALID, "invalid x input wrong type. Expected")
    default = entities.launch_plan(f"{name}.default", name, {"x": (declared, value)})
    await refused(admin.CreateLaunchPlan(default), INVALID, "Type mismatch for Parameter x in default_inputs")
    fixed = entities.launch_plan(f"{name}.fixed", name, fixed=LiteralMap(literals={"x": value}))
    await refused(admin.CreateLaunchPlan(fixed), INVALID, "invalid fixed_input wrong type x, expected")
    signal = SignalIdentifier(signal_id=name, execution_id=execution_id("values"))
    request = SignalGetOrCreateRequest(id=signal, type=declared)
    await signals.GetOrCreateSignal(request)
    response = signals.SetSignal(SignalSetRequest(id=signal, value=value))
    await refused(response, INVALID, "is not castable to existing signal type")
    assert not (await signals.GetOrCreateSignal(request)).HasField("value")


@pytest.mark.parametrize(
    ("check", "cases"),
    [(accepted, FITTING), (refused_everywhere, [*OTHERS, *FOREIGN_COLORS])],
    ids=["fitting", "others"],
)
async def test_values_are_accepted_by_every_method_where_they_have_the_declared_type(
    admin: AdminServiceStub, sandbox: Sandbox, check: Check, cases: list[Any]
) -> None:
    async with sandbox.channel() as channel:
        signals = SignalServiceStub(channel)
        await asyncio.gather(*(check(admin, signals, *case.values) for case in cases))


# Attributes of one kind are checked only up to this size.
MAX_BYTES = 65_536
TOO_LARGE = "size of matching_attributes exceeded 65536 bytes"


@pytest.mark.parametrize(("field", "value", "message"), BAD)
async def test_configurations_that_cannot_run_are_refused_by_every_method(
    admin: AdminServiceStub, plums: Identifier, field: str, value: Any, message: str
) -> None:
    request = launch(plums)
    configured(request.spec, field, value)
    await refused(admin.CreateExecution(request), INVALID, message)
    plan = entities.launch_plan("values.configured", "stack.report", fixed=entities.literals(count=1, unit="plums"))
    configured(plan.spec, field, value)
    await refused(admin.CreateLaunchPlan(plan), INVALID, message)
    given = MatchingAttributes(workflow_execution_config=configured(WorkflowExecutionConfig(), field, value))
    too_large = given.ByteSize() > MAX_BYTES
    for level in LEVELS:
        scope = (PROJECT, DOMAIN, "values.configured")
        await refused(put(admin, level, scope, given), INVALID, TOO_LARGE if too_large else message)
    stored = await get(admin, LEVELS[0], (PROJECT,), "WORKFLOW_EXECUTION_CONFIG")
    assert stored.matching_attributes.workflow_execution_config.max_parallelism >= 0

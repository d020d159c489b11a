"""Values and configurations at every door that takes them: fitting ones are taken, others are INVALID_ARGUMENT."""

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
Door = Callable[[AdminServiceStub, SignalServiceStub, LiteralType, Literal], Awaitable[None]]


def launch(target: Identifier, value: Literal | None = None) -> ExecutionCreateRequest:
    inputs = LiteralMap(literals={} if value is None else {"x": value})
    return ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, spec=ExecutionSpec(launch_plan=target), inputs=inputs)


async def registered(admin: AdminServiceStub, declared: LiteralType, name: str) -> Identifier:
    """A task that takes `x`, and a workflow of it under the same name."""
    task = entities.task(name, {"x": declared}, {})
    await admin.CreateTask(task)
    node = task_node("n0", name, promise("x", "", "x"))
    await admin.CreateWorkflow(entities.workflow(name, {"x": declared}, {}, [node], []))
    return task.id


async def taken(admin: AdminServiceStub, signals: SignalServiceStub, declared: LiteralType, value: Literal) -> None:
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
    asked = SignalGetOrCreateRequest(id=signal, type=declared)
    await signals.GetOrCreateSignal(asked)
    await signals.SetSignal(SignalSetRequest(id=signal, value=value))
    assert (await signals.GetOrCreateSignal(asked)).value == value


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
    asked = SignalGetOrCreateRequest(id=signal, type=declared)
    await signals.GetOrCreateSignal(asked)
    answer = signals.SetSignal(SignalSetRequest(id=signal, value=value))
    await refused(answer, INVALID, "is not castable to existing signal type")
    assert not (await signals.GetOrCreateSignal(asked)).HasField("value")


@pytest.mark.parametrize(
    ("door", "cases"), [(taken, FITTING), (refused_everywhere, [*OTHERS, *FOREIGN_COLORS])], ids=["fitting", "others"]
)
async def test_values_are_taken_at_every_door_where_they_fit_the_declared_type(
    admin: AdminServiceStub, sandbox: Sandbox, door: Door, cases: list[Any]
) -> None:
    async with sandbox.channel() as channel:
        signals = SignalServiceStub(channel)
        await asyncio.gather(*(door(admin, signals, *case.values) for case in cases))


# Attributes of one kind are looked at only up to this size.
MAX_BYTES = 65_536
TOO_LARGE = "size of matching_attributes exceeded 65536 bytes"


@pytest.mark.parametrize(("field", "value", "message"), BAD)
async def test_configurations_that_cannot_run_are_refused_wherever_they_are_written(
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
    found = await get(admin, LEVELS[0], (PROJECT,), "WORKFLOW_EXECUTION_CONFIG")
    assert found.matching_attributes.workflow_execution_config.max_parallelism >= 0

"""Patterns that a database could compare for hours: they end soon, and other clients are served meanwhile."""

import asyncio
import time
from uuid import uuid4

import grpc
import pytest
from flyteidl.admin.common_pb2 import NamedEntityIdentifier, ResourceListRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.support import entities
from tests.support.entities import DOMAIN, PROJECT
from tests.support.sandbox import Sandbox

TEXT = "a" * 3_000_000
AT_ONCE = 16  # more than a service has connections to its database
SECONDS = 2.0


@pytest.mark.parametrize("function", ["contains", "not_like"])
@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        ("a" * 100_000 + "b", grpc.StatusCode.INVALID_ARGUMENT),
        ("a" * 999 + "b", grpc.StatusCode.OK),
        ("%a" * 499 + "b", grpc.StatusCode.OK),
        ("%a_" * 333 + "b", grpc.StatusCode.OK),
        # A filter of many conditions: each pattern is within the limit.
        (f"{'a' * 999}b)+contains(short_description,{'a' * 999}b", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_long_patterns_delay_no_other_client(
    attacked: Sandbox, function: str, pattern: str, code: grpc.StatusCode
) -> None:
    name = f"costly.{uuid4().hex}"
    task = entities.task(name, {}, {})
    task.spec.description.short_description = TEXT
    async with attacked.channel() as channel, attacked.channel() as other:
        admin = AdminServiceStub(channel)
        await admin.CreateTask(task)
        where = NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=name)
        costly = ResourceListRequest(id=where, limit=1, filters=f"{function}(short_description,{pattern})")
        calls = [admin.ListTasks(costly, timeout=5 * SECONDS) for _ in range(AT_ONCE)]
        begun = time.monotonic()
        await AdminServiceStub(other).ListTasks(ResourceListRequest(id=where, limit=1))
        assert time.monotonic() - begun < SECONDS
        codes = set(await asyncio.gather(*(call.code() for call in calls)))
        assert time.monotonic() - begun < 2 * SECONDS
    assert codes == {code}

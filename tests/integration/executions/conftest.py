"""A running executions service and its database, for each test file; it receives events while it runs."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub

from tests.support.parts import Parts, Served, service


@pytest.fixture(scope="module")
def objects(parts: Parts) -> Path:
    return parts.folder / "read-objects"


@pytest.fixture(scope="module")
async def served(parts: Parts, objects: Path) -> AsyncIterator[Served]:
    async with service(
        "executions", parts, "read_executions", objects_url=f"file://{objects}", signing_key="key"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def admin(served: Served) -> AdminServiceStub:
    return AdminServiceStub(served.channel)


@pytest.fixture(scope="module")
def proxy(served: Served) -> DataProxyServiceStub:
    return DataProxyServiceStub(served.channel)


@pytest.fixture(scope="module")
async def database(served: Served) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(served.settings.database_url, autocommit=True) as connection:
        yield connection

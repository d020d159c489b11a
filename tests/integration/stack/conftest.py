"""One sandbox for all tests of the whole stack."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub

from tests.integration.stack import launched
from tests.support.sandbox import Sandbox, running_sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A running sandbox."""
    # A short path of its own: PostgreSQL's socket must fit into 107 characters.
    with TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as folder, running_sandbox(Path(folder)) as made:
        yield made


@pytest.fixture(scope="session")
async def admin(sandbox: Sandbox) -> AsyncIterator[AdminServiceStub]:
    """AdminService through the gateway."""
    async with sandbox.channel() as channel:
        yield AdminServiceStub(channel)


@pytest.fixture(scope="session")
async def data_proxy(sandbox: Sandbox) -> AsyncIterator[DataProxyServiceStub]:
    """DataProxyService through the gateway."""
    async with sandbox.channel() as channel:
        yield DataProxyServiceStub(channel)


@pytest.fixture(scope="session")
async def plums(admin: AdminServiceStub) -> Identifier:
    """A registered launch plan of a workflow of two tasks."""
    return await launched.register(admin)

"""A sandbox for all tests of the whole stack."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub

from tests.integration.stack import launched
from tests.integration.stack import shapes as package
from tests.support.sandbox import Sandbox, running_sandbox

_pair = ExitStack()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run no other test at the same time as a sandbox, and no two sandboxes: that is too much for a small machine.

    So the tests of the whole stack come last, those with a sandbox of their own before the others.
    """
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if item.path.parent != Path(__file__).parent:
        return 0
    return 2 if isinstance(item, pytest.Function) and "sandbox" in item.fixturenames else 1


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Run a sandbox."""
    _pair.close()
    # A short path of its own: PostgreSQL's socket must fit into 107 characters.
    with (
        TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as folder,
        running_sandbox(Path(folder)) as made,
    ):
        yield made


@pytest.fixture(scope="session")
def pair() -> Iterator[Sandbox]:
    """Run a sandbox with two replicas of registry and executions; it ends when the first test of `sandbox` begins."""
    with _pair:
        folder = _pair.enter_context(TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True))
        yield _pair.enter_context(running_sandbox(Path(folder), replicas=2))


@pytest.fixture(scope="session")
async def admin(sandbox: Sandbox) -> AsyncIterator[AdminServiceStub]:
    """Yield AdminService through the gateway."""
    async with sandbox.channel() as channel:
        yield AdminServiceStub(channel)


@pytest.fixture(scope="session")
async def data_proxy(sandbox: Sandbox) -> AsyncIterator[DataProxyServiceStub]:
    """Yield DataProxyService through the gateway."""
    async with sandbox.channel() as channel:
        yield DataProxyServiceStub(channel)


@pytest.fixture(scope="session")
async def plums(admin: AdminServiceStub) -> Identifier:
    """Register a launch plan of a workflow of two tasks."""
    return await launched.register(admin)


@pytest.fixture(scope="session")
async def shapes(sandbox: Sandbox) -> dict[str, list[str]]:
    """Register every shape of flytekit in two versions; return the codes of the Create calls of each."""
    return await package.register_all(sandbox)


@pytest.fixture(scope="session")
async def entities(sandbox: Sandbox, shapes: dict[str, list[str]]) -> Any:
    """Return the messages sent and read back of every shape, by kind and name."""
    assert shapes
    return await package.read_back(sandbox)

"""A sandbox for all tests of the whole stack, on one front of the services after the other."""

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

# With these every front is passed: REST takes "grpc" where gRPC calls take the bridge.
FRONTS = ("lean", "bridge")
# What a front decides, tried through each of them: requests, answers of every code, pages, a client's whole session.
# All else is the services' own, and is tried through the first.
OF_FRONTS = frozenset(
    {
        "test_bad_input",
        "test_flytekit_session",
        "test_launches",
        "test_list_requests",
        "test_reflection",
        "test_signals",
    }
)


_pair = ExitStack()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let no other test run beside a sandbox, nor two sandboxes at a time: much for a small machine.

    So the tests of the whole stack come last, those with a sandbox of their own before the others, and front by front.
    """
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if item.path.parent != Path(__file__).parent:
        return 0
    front = item.callspec.params.get("sandbox") if hasattr(item, "callspec") else None
    return 1 if front is None else 2 + FRONTS.index(front)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Pass a test through the fronts that it is about, unless it names them itself."""
    named = any("sandbox" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "sandbox" in metafunc.fixturenames and not named:
        fronts = FRONTS if metafunc.module.__name__.rpartition(".")[2] in OF_FRONTS else FRONTS[:1]
        metafunc.parametrize("sandbox", fronts, indirect=True, scope="session")


@pytest.fixture(scope="session")
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A running sandbox, whose gateway uses the front that is asked for."""
    _pair.close()
    # A short path of its own: PostgreSQL's socket must fit into 107 characters.
    with (
        TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as folder,
        running_sandbox(Path(folder), request.param) as made,
    ):
        yield made


@pytest.fixture(scope="session")
def pair() -> Iterator[Sandbox]:
    """A sandbox with two replicas of the registry and of executions; it ends when the first of one each begins."""
    with _pair:
        folder = _pair.enter_context(TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True))
        yield _pair.enter_context(running_sandbox(Path(folder), replicas=2))


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


@pytest.fixture(scope="session")
async def shapes(sandbox: Sandbox) -> dict[str, list[str]]:
    """Every shape that flytekit knows, registered in two versions; answers the codes of the Create calls of each."""
    return await package.register_all(sandbox)


@pytest.fixture(scope="session")
async def entities(sandbox: Sandbox, shapes: dict[str, list[str]]) -> Any:
    """What was sent and what is read back of every shape, by kind and name."""
    assert shapes
    return await package.read_back(sandbox)

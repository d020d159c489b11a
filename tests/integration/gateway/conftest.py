"""What tests of the gateway share: one gateway for all of them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.gateways import Gateway, echoing_gateway


@pytest.fixture(scope="package")
async def echoing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Run a gateway before servers as the services have them."""
    async with echoing_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="package")
async def echoing_grpcio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Run a gateway before servers that answer whatever gRPC allows."""
    async with echoing_gateway(tmp_path_factory.mktemp("gateway"), grpcio=True) as running:
        yield running


@pytest.fixture
def gateway(echoing: Gateway) -> Iterator[Gateway]:
    """Yield the gateway with services that have not been asked yet and have no answers of their own."""
    yield echoing
    _forget(echoing)


@pytest.fixture
def gateway_before_grpcio(echoing_grpcio: Gateway) -> Iterator[Gateway]:
    """Yield the gateway for what the services never answer."""
    yield echoing_grpcio
    _forget(echoing_grpcio)


def _forget(running: Gateway) -> None:
    for service in (*running.services.values(), running.second_executions):
        service.calls.clear()
        service.answers.clear()

"""Fixtures of the gateway's tests: one gateway for all of them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.gateways import Gateway, echoing_gateway


@pytest.fixture(scope="package")
async def echoing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Run a gateway in front of HTTP/2 servers like those of the services."""
    async with echoing_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="package")
async def echoing_grpcio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Run a gateway in front of grpcio servers, which can return whatever gRPC allows."""
    async with echoing_gateway(tmp_path_factory.mktemp("gateway"), grpcio=True) as running:
        yield running


@pytest.fixture
def gateway(echoing: Gateway) -> Iterator[Gateway]:
    """Yield the gateway with services that have no calls yet and no handlers of their own."""
    yield echoing
    _reset(echoing)


@pytest.fixture
def gateway_before_grpcio(echoing_grpcio: Gateway) -> Iterator[Gateway]:
    """Yield the gateway in front of grpcio servers, for responses that no service sends."""
    yield echoing_grpcio
    _reset(echoing_grpcio)


def _reset(running: Gateway) -> None:
    for service in (*running.services.values(), running.second_executions):
        service.calls.clear()
        service.handlers.clear()

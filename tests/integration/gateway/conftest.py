"""What tests of the gateway share: one gateway a front, for all of them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from gateway import routes
from tests.support.gateways import Gateway, echoing_gateway


@pytest.fixture(scope="package", params=routes.Front)
async def echoing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Run a gateway for one front after the other."""
    async with echoing_gateway(tmp_path_factory.mktemp("gateway"), request.param) as running:
        yield running


@pytest.fixture
def gateway(echoing: Gateway) -> Iterator[Gateway]:
    """Yield the gateway with services that have not been asked yet and have no answers of their own."""
    yield echoing
    for service in (*echoing.services.values(), echoing.second_executions):
        service.calls.clear()
        service.answers.clear()

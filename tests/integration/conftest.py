"""Fixtures of several integration tests: one PostgreSQL and one NATS for the session, connections to them."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from services.executions.events.batches import EventBatchConsumer
from services.kit.messaging.bus import Bus
from tests.support.event_path import Executions
from tests.support.parts import Parts, running_parts


def pytest_xdist_auto_num_workers() -> int:
    """Return half as many workers again as there are cores, as these tests often wait for other processes."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


@pytest.fixture(scope="session")
def parts() -> Iterator[Parts]:
    """Real PostgreSQL and NATS."""
    # A short path of its own: PostgreSQL's socket must fit into 107 characters.
    with TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as folder, running_parts(Path(folder)) as running:
        yield running


@pytest.fixture
async def bus(parts: Parts) -> AsyncIterator[Bus]:
    """Connect a test to NATS."""
    connected = await Bus.connect(parts.nats_url, "test")
    yield connected
    await connected.close()


@pytest.fixture
async def applied(executions: Executions) -> AsyncIterator[EventBatchConsumer]:
    """Apply event batches as one replica of the module's `executions`."""
    async with executions.replica() as listener:
        yield listener

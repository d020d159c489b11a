"""A sandbox that the attack tests share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.integration.stack import launched
from tests.support.sandbox import Sandbox, running_sandbox


@pytest.fixture(scope="package")
def attacked() -> Iterator[Sandbox]:
    """Run a sandbox that the attack tests share; each must leave it working."""
    # A short path of its own: PostgreSQL's socket must fit into 107 characters.
    with (
        TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as folder,
        running_sandbox(Path(folder)) as made,
    ):
        yield made


@pytest.fixture(scope="package")
async def plan(attacked: Sandbox) -> AsyncIterator[Identifier]:
    """Register a launch plan of a workflow of two tasks."""
    async with attacked.channel() as channel:
        yield await launched.register(AdminServiceStub(channel))

"""The folder of JetStream is deleted while its server runs."""

import asyncio
import shutil
from contextlib import suppress
from itertools import count
from typing import Any

import grpc
import pytest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from tests.integration.attacks.running import events, running
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("plan")  # which is launched

BACK_SECONDS = 30


async def test_events_are_accepted_again_after_the_folder_of_their_stream_was_deleted(attacked: Sandbox) -> None:
    async with attacked.channel() as channel:
        admin = AdminServiceStub(channel)
        name = await running(admin)
        server = attacked.pid("nats")
        # In one step: the server may write into it, and part of it would stay.
        deleted = (attacked.folder / "nats" / "jetstream").rename(attacked.folder / "nats" / "deleted")
        await until(lambda: attacked.pid("nats") != server, BACK_SECONDS)
        shutil.rmtree(deleted)
        async with asyncio.timeout(BACK_SECONDS):
            for number in count():
                request: Any = events(name)["CreateNodeEvent"]
                request.event.id.node_id = f"n{number}"
                with suppress(grpc.aio.AioRpcError):
                    await admin.CreateNodeEvent(request)
                    break

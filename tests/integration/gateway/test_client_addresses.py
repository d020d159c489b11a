"""The address of a client, as services receive it for the audit log: no client can choose it."""

from pathlib import Path

import pytest

from services.kit.audit.trail import ADDRESS_HEADER
from services.kit.errors import Code
from tests.support.gateways import echoing_gateway
from tests.support.ways import WAYS

CLIENT, LOOPBACK = "203.0.113.7", "127.0.0.1"
FORGED = (
    ("x-forwarded-for", f"198.51.100.1, {CLIENT}"),
    (ADDRESS_HEADER, "192.0.2.1"),
    ("x-envoy-external-address", "192.0.2.2"),
)


@pytest.mark.parametrize(("proxies", "address"), [(0, LOOPBACK), (1, CLIENT)])
async def test_address_is_that_of_the_peer_or_what_trusted_proxies_saw(
    tmp_path: Path, proxies: int, address: str
) -> None:
    async with echoing_gateway(tmp_path, trusted_proxies=proxies) as gateway:
        for way in WAYS.values():
            code, _ = await way(gateway, FORGED)
            assert code is Code.OK
            assert gateway.newest_call("projects").metadata[ADDRESS_HEADER] == address

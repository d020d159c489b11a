"""What operators of a gateway need: a renewed certificate, and metrics and readiness without the admin interface."""

import ssl
from pathlib import Path

import httpx
import pytest

from gateway import routes
from gateway.bootstrap import Settings
from gateway.clusters import Address
from gateway.tls import Certificate
from tests.support.certificates import own_certificate
from tests.support.envoy import running_gateway
from tests.support.parts import free_port
from tests.support.waiting import until


class Mounted:
    """A folder like that of a mounted Secret: its files are links through one link, which an update replaces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = 0

    async def update(self) -> str:
        """Write another certificate; return it as PEM."""
        self._versions += 1
        version = self.folder / f"..{self._versions}"
        version.mkdir(parents=True)
        chain, key = await own_certificate(version)
        (self.folder / "..new").symlink_to(version.name)
        (self.folder / "..new").rename(self.folder / "..data")
        for file in (chain, key):
            if not (self.folder / file.name).exists():
                (self.folder / file.name).symlink_to(f"..data/{file.name}")
        return chain.read_text()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a gateway with metrics, and TLS by the files of a mounted folder."""
    return Settings(
        listen=Address("127.0.0.1", free_port()),
        admin=Address("127.0.0.1", free_port()),
        stats=Address("127.0.0.1", free_port()),
        upstreams={owner: [Address("127.0.0.1", 1)] for owner in routes.load().owners},
        tls=Certificate(tmp_path / "tls" / "chain.pem", tmp_path / "tls" / "key.pem"),
    )


async def test_renewed_certificate_is_presented_without_a_restart(tmp_path: Path, settings: Settings) -> None:
    mounted = Mounted(tmp_path / "tls")
    first = await mounted.update()
    async with running_gateway(tmp_path, settings, ssl.create_default_context(cadata=first)):
        assert _presented(settings.listen) == first
        second = await mounted.update()
        await until(lambda: _presented(settings.listen) == second)


async def test_stats_listener_has_metrics_and_readiness_and_nothing_else(tmp_path: Path, settings: Settings) -> None:
    plain = settings.model_copy(update={"tls": None})
    assert plain.stats is not None
    async with (
        running_gateway(tmp_path, plain),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{plain.stats.port}") as client,
    ):
        assert "envoy_server_live" in (await client.get("/stats/prometheus")).text
        assert (await client.get("/ready")).text.strip() == "LIVE"
        others = [await client.get("/config_dump"), await client.get("/"), await client.post("/quitquitquit")]
        others.append(await client.post("/ready"))
    assert [response.status_code for response in others] == [404] * len(others)


def _presented(address: Address) -> str:
    """Return the certificate that the gateway presents, as PEM."""
    return ssl.get_server_certificate((address.host, address.port))

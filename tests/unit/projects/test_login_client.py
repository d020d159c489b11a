"""A client of an OpenID provider: how it authenticates, and the provider's faults."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.kit.errors import PermissionDenied, Unavailable
from services.projects.login import client as module
from services.projects.login.client import Client, claims_of
from services.projects.login.discovery import Discovery
from tests.support.certificates import own_certificate
from tests.support.oidc.clients import Client as Registered
from tests.support.oidc.provider import DOWN, NO_OBJECT, NONSENSE, Fault, Provider, running_provider

CALLBACK = "http://localhost:30080/callback"
NOW = 1_000.0
PASSWORD = "a secret/+%"  # noqa: S105 - of this test


@pytest.fixture(name="provider", scope="module")
def _provider() -> Iterator[Provider]:
    clients = [
        Registered("console", secret=PASSWORD, redirect_uris=[CALLBACK]),
        Registered("public", redirect_uris=[CALLBACK]),
    ]
    with running_provider(clients) as running:
        yield running


@pytest.fixture(name="discovery")
async def _discovery(provider: Provider) -> AsyncIterator[Discovery]:
    provider.reset()
    discovery = Discovery(provider.issuer)
    yield discovery
    await discovery.close()


@asynccontextmanager
async def client_of(
    discovery: Discovery, provider: Provider, client_id: str = "console", secret: str = PASSWORD, ca: Path | None = None
) -> AsyncIterator[Client]:
    client = Client(discovery, provider.issuer, client_id, secret, ca, clock=lambda: NOW)
    yield client
    await client.close()


@pytest.mark.parametrize("methods", [("client_secret_basic",), ("client_secret_post",), ()])
async def test_a_client_authenticates_as_the_provider_supports(
    provider: Provider, discovery: Discovery, methods: tuple[str, ...]
) -> None:
    metadata = (await discovery.metadata()).model_copy(update={"token_endpoint_auth_methods_supported": methods})
    discovery._metadata = metadata
    async with client_of(discovery, provider) as client:
        with pytest.raises(PermissionDenied, match="refuses: invalid_grant"):
            await client.refresh("wrong")


@pytest.mark.parametrize(
    ("client_id", "secret", "error"), [("console", "wrong", "invalid_client"), ("public", "", "invalid_grant")]
)
async def test_a_client_that_is_refused_learns_why(
    provider: Provider, discovery: Discovery, client_id: str, secret: str, error: str
) -> None:
    async with client_of(discovery, provider, client_id, secret) as client:
        with pytest.raises(PermissionDenied, match=f"refuses: {error}"):
            await client.refresh("wrong")


@pytest.mark.parametrize(
    "fault",
    [
        DOWN,
        NONSENSE,
        NO_OBJECT,
        Fault(status=500, body="{}"),
        Fault(status=429, body="{}"),
        Fault(status=200, body="[" * 100_000),
        Fault(status=200, body=" " * (2 << 20)),
        Fault(delay_seconds=2),
    ],
    ids=["down", "nonsense", "no object", "error", "too many", "deep", "large", "slow"],
)
async def test_a_token_endpoint_that_fails_is_unavailable(
    provider: Provider, discovery: Discovery, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REQUEST_SECONDS", 0.5)
    await discovery.metadata()
    provider.faults["/token"] = fault
    async with client_of(discovery, provider) as client:
        with pytest.raises(Unavailable, match="the identity provider"):
            await client.refresh("any")


async def test_a_provider_without_a_login_of_browsers_is_unavailable(provider: Provider, discovery: Discovery) -> None:
    provider.hidden = ("authorization_endpoint", "end_session_endpoint")
    async with client_of(discovery, provider) as client:
        with pytest.raises(Unavailable, match="no authorization_endpoint"):
            await client.authorization_endpoint()
        assert await client.end_session_endpoint() == ""


async def test_the_certificate_of_the_provider_is_checked(tmp_path_factory: pytest.TempPathFactory) -> None:
    files = await own_certificate(tmp_path_factory.mktemp("tls"), "DNS:localhost")
    with running_provider([Registered("public")], files) as provider:
        discovery = Discovery(provider.issuer, files[0])
        for ca_file, error, text in ((files[0], PermissionDenied, "invalid_grant"), (None, Unavailable, "CERTIFICATE")):
            async with client_of(discovery, provider, "public", "", ca_file) as client:
                with pytest.raises(error, match=text):
                    await client.refresh("any")
        await discovery.close()


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "..", "a.W10.c", "a.bnVsbA.c", "ü.ü.ü"])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(PermissionDenied, match="cannot be read"):
        claims_of(token)

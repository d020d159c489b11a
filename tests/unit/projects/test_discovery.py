"""The provider's discovery document: fetched when it is needed, kept, and never believed blindly."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from flyteidl.service.auth_pb2 import OAuth2MetadataRequest, PublicClientAuthConfigRequest
from flyteidl.service.identity_pb2 import UserInfoRequest, UserInfoResponse
from google.protobuf import json_format

from services.kit.errors import FailedPrecondition, Unavailable
from services.kit.rpc.callers import Caller
from services.kit.rpc.table import Call
from services.projects.config import Settings
from services.projects.login import discovery
from services.projects.login.discovery import Discovery
from services.projects.rpc.auth_metadata import AuthMetadataHandlers
from services.projects.rpc.identity import IdentityHandlers
from tests.support.callers import SECRET
from tests.support.oidc.provider import DOWN, NO_OBJECT, NONSENSE, Fault, Provider, running_provider

DOCUMENT = discovery.DOCUMENT


class Clock:
    """Seconds that pass when a test wants it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def started() -> Iterator[Provider]:
    with running_provider() as running:
        yield running


@pytest.fixture
def provider(started: Provider) -> Iterator[Provider]:
    """Yield a provider that works, and has no requests yet."""
    started.requests.clear()
    yield started
    started.faults.clear()
    started.hidden = ()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def document(provider: Provider, clock: Clock) -> AsyncIterator[Discovery]:
    made = Discovery(provider.issuer, clock=clock)
    yield made
    await made.close()


async def test_it_is_fetched_once_by_many_callers_and_kept(
    provider: Provider, document: Discovery, clock: Clock
) -> None:
    found = await asyncio.gather(*(document.metadata() for _ in range(20)))
    assert {each.token_endpoint for each in found} == {provider.metadata()["token_endpoint"]}
    clock.now += discovery._KEPT_SECONDS - 1
    await document.metadata()
    assert provider.requests == [DOCUMENT]
    clock.now += 1
    await document.metadata()
    assert provider.requests == [DOCUMENT] * 2


@pytest.mark.parametrize(
    "fault",
    [DOWN, NONSENSE, NO_OBJECT, Fault(status=200, body="{}"), Fault(status=200, body="x" * (2 << 20))],
    ids=["down", "a page", "a list", "nothing in it", "much"],
)
async def test_a_provider_that_fails_is_asked_again_soon_and_not_by_each_caller(
    provider: Provider, document: Discovery, clock: Clock, fault: Fault
) -> None:
    provider.faults[DOCUMENT] = fault
    for _ in range(3):
        with pytest.raises(Unavailable, match=f"the identity provider {provider.issuer} is not available: "):
            await document.metadata()
    assert len(provider.requests) == 1
    provider.faults.clear()
    clock.now += discovery._RETRY_SECONDS
    assert (await document.metadata()).issuer == provider.issuer


async def test_the_last_document_is_used_while_the_provider_is_away(
    provider: Provider, document: Discovery, clock: Clock
) -> None:
    first = await document.metadata()
    clock.now += discovery._KEPT_SECONDS
    provider.stop()
    try:
        assert await document.metadata() == first
    finally:
        provider.start()


async def test_a_slow_provider_is_unavailable(
    provider: Provider, document: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "_FETCH_SECONDS", 0.1)
    provider.faults[DOCUMENT] = Fault(delay_seconds=1)
    with pytest.raises(Unavailable):
        await document.metadata()


async def test_the_document_of_another_issuer_is_refused(provider: Provider, clock: Clock) -> None:
    document = Discovery(f"{provider.issuer}/", clock=clock)
    with pytest.raises(FailedPrecondition, match=f"is {provider.issuer}, not {provider.issuer}/"):
        await document.metadata()
    await document.close()


async def test_clients_learn_the_endpoints_and_their_client(provider: Provider, document: Discovery) -> None:
    provider.hidden = ("device_authorization_endpoint", "code_challenge_methods_supported")
    settings = Settings(
        gateway_secret=SECRET,
        auth_issuer=provider.issuer,
        auth_client_id="flytekit",
        auth_client_scopes=("a", "b"),
        auth_client_audience="flyte",
        auth_client_header="authorization",
    )
    handlers = AuthMetadataHandlers(settings, document)
    metadata = await handlers.GetOAuth2Metadata(OAuth2MetadataRequest(), Call())
    expected = provider.metadata()
    for name in ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"):
        assert getattr(metadata, name) == expected[name]
    for name in ("scopes_supported", "grant_types_supported", "token_endpoint_auth_methods_supported"):
        assert list(getattr(metadata, name)) == expected[name]
    assert metadata.device_authorization_endpoint == ""
    client = await handlers.GetPublicClientConfig(PublicClientAuthConfigRequest(), Call())
    assert (client.client_id, client.redirect_uri) == ("flytekit", "http://localhost:53593/callback")
    assert (list(client.scopes), client.audience) == (["a", "b"], "flyte")
    assert client.authorization_metadata_key == "authorization"


async def test_user_info_is_what_the_token_says() -> None:
    claims = {"sub": "a", "name": "Ann", "email": "a@b", "picture": 7, "groups": ["x", {"y": None}], "exp": 1}
    response = await IdentityHandlers().UserInfo(UserInfoRequest(), Call(caller=Caller("a", "flytectl", claims)))
    assert (response.subject, response.name, response.email, response.picture) == ("a", "Ann", "a@b", "")
    others = json_format.MessageToDict(response.additional_claims)
    assert others == {"sub": "a", "picture": 7, "groups": ["x", {"y": None}], "exp": 1}
    assert await IdentityHandlers().UserInfo(UserInfoRequest(), Call()) == UserInfoResponse()


def test_login_needs_the_secret_of_the_gateway() -> None:
    with pytest.raises(ValueError, match="gateway_secret is needed for login"):
        Settings(auth_issuer="https://login.example")

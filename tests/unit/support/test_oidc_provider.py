"""The provider of tests is as strict as a real one, so that tests with it can fail."""

import base64
import hashlib
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.oidc.clients import DEVICE_CODE
from tests.support.oidc.provider import AUDIENCE, Provider, running_provider
from tests.support.oidc.tokens import claims_of

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
CALLBACK = "http://localhost:53593/callback"


@pytest.fixture(name="provider", scope="module")
def _running() -> Iterator[Provider]:
    with running_provider() as running:
        yield running


@pytest.fixture(autouse=True)
def _unchanged(provider: Provider) -> None:
    provider.reset()


def authorize(provider: Provider, **changes: str) -> httpx.Response:
    query = {
        "response_type": "code",
        "client_id": "flytekit",
        "redirect_uri": CALLBACK,
        "scope": "openid all",
        "state": "state",
        "nonce": "nonce",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    return httpx.get(f"{provider.issuer}/authorize", params=query | changes)


def code_for(provider: Provider, user: str = "ann", **changes: str) -> str:
    provider.auto_approve = user
    response = authorize(provider, **changes)
    query = parse_qs(urlsplit(response.headers["location"]).query)
    assert query["state"] == ["state"]
    return query["code"][0]


def token(provider: Provider, **form: str) -> httpx.Response:
    return httpx.post(f"{provider.issuer}/token", data={"client_id": "flytekit", **form})


def redeem(provider: Provider, code: str, **changes: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    return token(provider, **form | changes)


def test_a_code_is_good_for_tokens_once(provider: Provider) -> None:
    code = code_for(provider)
    tokens = redeem(provider, code).json()
    id_token, access_token = claims_of(tokens["id_token"]), claims_of(tokens["access_token"])
    assert (id_token["sub"], id_token["aud"], id_token["nonce"]) == ("ann", "flytekit", "nonce")
    assert (access_token["sub"], access_token["aud"], access_token["azp"]) == ("ann", AUDIENCE, "flytekit")
    assert redeem(provider, code).json() == {
        "error": "invalid_grant",
        "error_description": "Invalid 'code' in request.",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "w" * 43},
        {"code_verifier": ""},
        {"redirect_uri": "http://localhost:1/callback"},
        {"client_id": "console", "client_secret": "console-secret"},
    ],
    ids=["other verifier", "no verifier", "other address", "other client"],
)
def test_a_code_is_for_who_asked_for_it(provider: Provider, changes: dict[str, str]) -> None:
    response = redeem(provider, code_for(provider), **changes)
    assert response.status_code == 400
    assert response.json()["error"] in {"invalid_grant", "invalid_request"}


def test_another_address_gets_no_code(provider: Provider) -> None:
    provider.auto_approve = "ann"
    response = authorize(provider, redirect_uri="https://evil.example/callback")
    assert response.status_code == 400
    assert "location" not in response.headers


def test_a_public_client_needs_a_challenge(provider: Provider) -> None:
    code = code_for(provider, code_challenge="", code_challenge_method="")
    assert redeem(provider, code).status_code == 400


@pytest.mark.parametrize("secret", ["wrong", ""])
def test_a_client_with_a_secret_needs_it(provider: Provider, secret: str) -> None:
    form, posted = {"grant_type": "client_credentials"}, {"client_id": "propeller", "client_secret": secret}
    basic = httpx.BasicAuth("propeller", secret)
    for response in (
        httpx.post(f"{provider.issuer}/token", data=form, auth=basic),
        httpx.post(f"{provider.issuer}/token", data=form | posted),
    ):
        assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


def test_a_refresh_token_is_good_once(provider: Provider) -> None:
    first = redeem(provider, code_for(provider)).json()["refresh_token"]
    second = token(provider, grant_type="refresh_token", refresh_token=first)
    assert claims_of(second.json()["id_token"])["sub"] == "ann"
    assert token(provider, grant_type="refresh_token", refresh_token=first).json()["error"] == "invalid_grant"


def test_a_device_gets_tokens_once_its_code_is_approved(provider: Provider) -> None:
    device = httpx.post(f"{provider.issuer}/device_code", data={"client_id": "flytekit", "scope": "openid"}).json()
    form = {"grant_type": DEVICE_CODE, "device_code": device["device_code"]}
    assert token(provider, **form).json() == {"error": "authorization_pending"}
    assert httpx.post(device["verification_uri_complete"], data={"user": "ann"}).status_code == 200
    assert claims_of(token(provider, **form).json()["access_token"])["sub"] == "ann"
    assert token(provider, **form).status_code == 400


def test_keys_rotate(provider: Provider) -> None:
    def key_ids() -> list[str]:
        return [key["kid"] for key in httpx.get(provider.keys_url).json()["keys"]]

    first = key_ids()
    provider.keys.rotate()
    assert key_ids()[:-1] == first
    assert provider.keys.signing.kid == key_ids()[-1]
    provider.keys.drop_old()
    assert key_ids() == [provider.keys.signing.kid]
    assert all("d" not in key for key in httpx.get(provider.keys_url).json()["keys"])


def test_a_provider_stops_and_starts_at_the_same_address(provider: Provider) -> None:
    provider.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(provider.keys_url)
    provider.start()
    assert httpx.get(provider.keys_url).status_code == 200

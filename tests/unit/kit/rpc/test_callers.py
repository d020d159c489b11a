"""Who calls: what makes a caller of claims, and what is refused."""

from typing import Any

import pytest

from services.kit.errors import Unauthenticated
from services.kit.rpc.callers import ANONYMOUS, CLAIMS_HEADER, GATEWAY_HEADER, Callers
from tests.support.callers import SECRET, encoded, sent_by_gateway


def test_the_caller_has_the_claims_of_its_token() -> None:
    claims: dict[str, Any] = {"sub": "Jürgen", "azp": "flytectl", "groups": ["a", "b"], "exp": 1}
    caller = Callers(SECRET).caller_of(sent_by_gateway(**claims))
    assert (caller.subject, caller.client, dict(caller.claims)) == ("Jürgen", "flytectl", claims)


@pytest.mark.parametrize(
    ("claims", "subject", "client"),
    [
        ({"sub": "a", "client_id": "b"}, "a", "b"),
        ({"sub": "a", "cid": "b"}, "a", "b"),
        ({"sub": "a", "azp": "b", "client_id": "c", "cid": "d"}, "a", "b"),
        ({"sub": "a", "azp": ["b"], "client_id": "", "cid": "d"}, "a", "d"),
        ({"sub": "a"}, "a", ""),
        ({"azp": "b"}, "b", "b"),
        ({"sub": None, "azp": "b"}, "b", "b"),
    ],
)
def test_subject_and_client_are_the_first_claims_that_are_texts(
    claims: dict[str, Any], subject: str, client: str
) -> None:
    caller = Callers(SECRET).caller_of(sent_by_gateway(**claims))
    assert (caller.subject, caller.client) == (subject, client)


def test_settings_name_the_claims() -> None:
    callers = Callers(SECRET, ("email", "sub"), ("appid",))
    claims = {"sub": "a", "azp": "b", "appid": "c"}
    assert callers.caller_of(sent_by_gateway(**claims, email="d@e")).subject == "d@e"
    assert callers.caller_of(sent_by_gateway(**claims)).subject == "a"
    assert callers.caller_of(sent_by_gateway(**claims)).client == "c"


def test_a_call_of_the_gateway_without_claims_is_anonymous() -> None:
    assert Callers(SECRET).caller_of(sent_by_gateway()) is ANONYMOUS


@pytest.mark.parametrize("secret", [None, "", "another secret", SECRET[:-1], SECRET + " ", SECRET.upper(), "é\ud800"])
def test_a_call_without_the_secret_is_refused_whatever_it_claims(secret: str | None) -> None:
    headers = {CLAIMS_HEADER: encoded({"sub": "root"})}
    with pytest.raises(Unauthenticated, match="only the gateway may call this port"):
        Callers(SECRET).caller_of(headers if secret is None else headers | {GATEWAY_HEADER: secret})


@pytest.mark.parametrize(
    "text",
    [
        "!",
        "e30é",
        "AA",
        encoded("text"),
        encoded(["sub"]),
        encoded(None),
        encoded([]) + "x",
        "W" * 40_000,
        encoded({"sub": "\ud800"}),
    ],
    ids=lambda text: text[:9],
)
def test_claims_that_are_no_object_are_refused(text: str) -> None:
    with pytest.raises(Unauthenticated, match="the claims of the token cannot be read"):
        Callers(SECRET).caller_of({GATEWAY_HEADER: SECRET, CLAIMS_HEADER: text})


@pytest.mark.parametrize("claims", [{"exp": 1}, {"sub": 7}, {"sub": {"sub": "a"}}])
def test_a_token_that_names_no_caller_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated, match="names no caller: it has none of the claims sub"):
        Callers(SECRET).caller_of(sent_by_gateway(**claims))


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "x" * 256, "\u202eroot"])
@pytest.mark.parametrize("claim", ["sub", "azp"])
def test_names_that_cannot_be_stored_or_shown_are_refused(claim: str, name: str) -> None:
    with pytest.raises(Unauthenticated, match=f"the claim {claim} of the token is no name"):
        Callers(SECRET).caller_of(sent_by_gateway(**{"sub": "a", claim: name}))


def test_claims_are_read_once_a_token() -> None:
    callers = Callers(SECRET)
    first = callers.caller_of(sent_by_gateway(sub="a"))
    assert callers.caller_of(sent_by_gateway(sub="a")) is first
    for number in range(2000):
        callers.caller_of(sent_by_gateway(sub=str(number)))
    assert callers.caller_of(sent_by_gateway(sub="a")) is not first  # only so many are kept

"""Tokens at a real Envoy, from a real OpenID provider: which callers are known, and who is refused."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl.admin.version_pb2 import GetVersionRequest, GetVersionResponse
from flyteidl.service.auth_pb2 import PublicClientAuthConfigRequest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.sandbox.engine.own_tokens import signed as signed_by_engine
from gateway import authentication
from services.kit.errors import Code
from services.kit.http2.frames import DATA, END_HEADERS, END_STREAM, HEADERS, frame
from services.kit.http2.headers import request_block
from services.kit.rpc.callers import ANONYMOUS, CLAIMS_HEADER, GATEWAY_HEADER, Callers
from tests.support import http2_client
from tests.support.callers import SECRET, encoded
from tests.support.gateways import ADMIN, CONSOLE, Gateway, echoing_gateway
from tests.support.oidc.provider import AUDIENCE, Provider, running_provider
from tests.support.oidc.tokens import signed
from tests.support.oidc.wrong_tokens import WRONG_TOKENS
from tests.support.refusals import refused
from tests.support.waiting import once_available
from tests.support.ways import PATH, WAYS, Headers, Way, by_grpc, by_rest

SESSION = "flyteplane_session"
KEYS_FRESH_SECONDS = 1.1
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider() as running:
        yield running


@pytest.fixture(scope="module")
async def known(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Run a gateway with login, in front of services that know who calls."""
    folder = tmp_path_factory.mktemp("gateway")
    async with echoing_gateway(folder, callers=Callers(SECRET), **login(folder, provider)) as running:
        assert await by_grpc(running, bearer(provider.token())) == (Code.OK, "")
        yield running


@pytest.fixture
def gateway(known: Gateway) -> Gateway:
    """Return the gateway with services that have no calls yet."""
    for service in known.services.values():
        service.calls.clear()
    return known


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


def login(folder: Path, provider: Provider) -> dict[str, Any]:
    """Return the gateway's settings for login with `provider`."""
    secret = folder / "secret"
    secret.write_text(SECRET)
    return {
        "gateway_secret_file": secret,
        "auth_issuer": provider.issuer,
        "auth_audiences": [AUDIENCE, "another-audience"],
        "auth_jwks_url": provider.keys_url,
    }


def version(gateway: Gateway, token: str) -> Awaitable[Message]:
    """Call GetVersion by gRPC; raise AioRpcError."""
    return gateway.call("GetVersion", GetVersionRequest(), metadata=tuple(bearer(token).items()))


def bearer(token: str, header: str = "authorization") -> dict[str, str]:
    return {header: f"Bearer {token}"}


async def test_a_token_makes_its_caller_known(gateway: Gateway, provider: Provider, way: Way) -> None:
    places: list[Headers] = [
        bearer(provider.token("ann", client_id="flytectl")),
        bearer(provider.token("ben"), "flyte-authorization"),
        {"cookie": f"other=1; {SESSION}={provider.token('cy')}"},
        bearer(provider.token("dan", audience=["x", "another-audience"], claims={"groups": ["a", "ü"] * 400})),
    ]
    for headers in places:
        assert await way(gateway, headers) == (Code.OK, "")
    calls = gateway.services["projects"].calls
    assert [call.caller.subject for call in calls] == ["ann", "ben", "cy", "dan"]
    assert calls[0].caller.client == "flytectl"
    assert calls[3].caller.claims["groups"] == ["a", "ü"] * 400
    for call in calls:  # the services receive no tokens, and no sessions
        assert not {"authorization", "flyte-authorization", "cookie"} & call.metadata.keys()


@pytest.mark.parametrize("wrong", WRONG_TOKENS)
async def test_a_wrong_token_is_unauthenticated(gateway: Gateway, provider: Provider, way: Way, wrong: str) -> None:
    for headers in (
        bearer(WRONG_TOKENS[wrong](provider)),
        bearer(WRONG_TOKENS[wrong](provider), "flyte-authorization"),
        {"cookie": f"{SESSION}={WRONG_TOKENS[wrong](provider)}"},
    ):
        code, message = await way(gateway, headers)
        assert code is Code.UNAUTHENTICATED
        assert "Jw" in message or "Audiences" in message
    assert not gateway.services["projects"].calls


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": ""}, {"authorization": "Basic YTpi"}, {"authorization": "Bearer"}, {"cookie": "a=b"}],
    ids=str,
)
async def test_no_token_is_unauthenticated(gateway: Gateway, way: Way, headers: Headers) -> None:
    code, message = await way(gateway, headers)
    assert code is Code.UNAUTHENTICATED
    assert "Jwt" in message
    assert not gateway.services["projects"].calls


async def test_a_token_in_the_path_does_not_count(gateway: Gateway, provider: Provider) -> None:
    reply = await gateway.rest.get("/api/v1/version", params={"access_token": provider.token()})
    assert reply.status_code == 401


@pytest.mark.parametrize("wrong", ["other audience", "expired", "swapped key"])
async def test_a_wrong_token_next_to_a_right_one_is_refused(
    gateway: Gateway, provider: Provider, way: Way, wrong: str
) -> None:
    right, bad = provider.token(), WRONG_TOKENS[wrong](provider)
    pairs: list[Headers] = [
        [*bearer(right).items(), *bearer(bad, "flyte-authorization").items()],
        [*bearer(bad).items(), *bearer(right, "flyte-authorization").items()],
        [*bearer(right).items(), ("cookie", f"{SESSION}={bad}")],
        [*bearer(right).items(), *bearer(bad).items()],
        [*bearer(bad).items(), *bearer(right).items()],
    ]
    for headers in pairs:
        assert (await way(gateway, headers))[0] is Code.UNAUTHENTICATED
    assert not gateway.services["projects"].calls


async def test_of_two_right_tokens_the_first_place_counts(gateway: Gateway, provider: Provider, way: Way) -> None:
    places = [
        bearer(provider.token("ann")),
        bearer(provider.token("ben"), "flyte-authorization"),
        {"cookie": f"{SESSION}={provider.token('cy')}"},
    ]
    for first, second in ((0, 1), (1, 0), (0, 2), (2, 1)):
        assert (await way(gateway, [*places[first].items(), *places[second].items()]))[0] is Code.OK
    subjects = [call.caller.subject for call in gateway.services["projects"].calls]
    assert subjects == ["ann", "ann", "ann", "ben"]


@pytest.mark.parametrize("name", [CLAIMS_HEADER, CLAIMS_HEADER.title(), "x_flyteplane_claims", "X-FLYTEPLANE-CLAIMS"])
async def test_claims_of_a_client_have_no_effect(gateway: Gateway, provider: Provider, way: Way, name: str) -> None:
    if way is by_grpc:
        name = name.lower()  # gRPC has no others
    root = encoded({"sub": "root"})
    forged = [(name, root), (name, root), (GATEWAY_HEADER, SECRET)]
    code, _ = await way(gateway, forged)
    assert code is Code.UNAUTHENTICATED
    assert await way(gateway, [*forged, *bearer(provider.token("ann")).items()]) == (Code.OK, "")
    (call,) = gateway.services["projects"].calls
    assert call.caller.subject == "ann"
    assert dict(call.caller.claims)["iss"] == provider.issuer


async def test_trailers_of_a_client_have_no_effect(gateway: Gateway, provider: Provider) -> None:
    url = gateway.rest.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    client = http2_client.Client(reader, writer)
    await client.greet()
    headers = [(":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", "localhost")]
    headers += [("content-type", "application/grpc"), ("te", "trailers"), *bearer(provider.token("ann")).items()]
    client.send(http2_client.begun(1, headers))
    client.send(frame(DATA, 0, 1, b"\0" * 5))
    trailers = request_block([(CLAIMS_HEADER, encoded({"sub": "root"})), (GATEWAY_HEADER, SECRET)])
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, trailers))
    response = await client.response()
    assert response.trailers["grpc-status"] == "0"
    assert [call.caller.subject for call in gateway.services["projects"].calls] == ["ann"]
    writer.close()
    await writer.wait_closed()


async def test_claims_of_a_client_have_no_effect_where_no_token_is_needed(gateway: Gateway) -> None:
    metadata = ((CLAIMS_HEADER, encoded({"sub": "root"})), (GATEWAY_HEADER, "x"))
    await gateway.call("GetPublicClientConfig", PublicClientAuthConfigRequest(), metadata=metadata)
    reply = await gateway.rest.get("/config/v1/flyte_client", headers=list(metadata))
    assert reply.status_code == 200
    assert [call.caller for call in gateway.services["projects"].calls] == [ANONYMOUS, ANONYMOUS]


@pytest.mark.parametrize("origin", ["", CONSOLE])
async def test_what_clients_need_before_they_log_in_needs_no_token(gateway: Gateway, origin: str) -> None:
    headers = {"origin": origin} if origin else {}
    for path, status in {
        "/healthcheck": 200,
        "/config/v1/flyte_client": 200,
        "/.well-known/oauth-authorization-server": 200,
        "/.well-known/openid-configuration": 303,
        "/.well-known/other": 404,
        "/objects/a": 200,
    }.items():
        gateway.objects.objects["/objects/a"] = b""
        assert (await gateway.rest.get(path, headers=headers)).status_code == status, path
    check = health_pb2_grpc.HealthStub(gateway.channel).Check
    assert (await check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/version",
        "/me",
        "/healthcheck/",
        "/healthcheck/../api/v1/version",
        "/.well-known/../api/v1/version",
        "/.well-known/%2e%2e/api/v1/version",
        "/.well-known%2F..%2Fapi/v1/version",
        "//api/v1/version",
        "/objects/../api/v1/version",
        "/Healthcheck",
        "/login/x",
        "/config/v1/flyte_client/x",
        "/api/v1/unknown",
        "/",
        f"/{ADMIN}/../flyteidl.service.AuthMetadataService/../{ADMIN}/GetVersion",
        PATH,
    ],
)
async def test_everything_else_needs_one(gateway: Gateway, path: str) -> None:
    for verb in ("GET", "POST", "HEAD", "OPTIONS"):
        reply = await gateway.rest.request(verb, gateway.rest.base_url.join("/").copy_with(raw_path=path.encode()))
        assert reply.status_code == 401, (verb, reply.text)
    assert not any(service.calls for service in gateway.services.values())


@pytest.mark.parametrize("path", ["/flyteidl.service.AdminService/Unknown", "/unknown.Service/Unknown"])
async def test_unknown_methods_and_reflection_need_one(gateway: Gateway, provider: Provider, path: str) -> None:
    call = gateway.channel.unary_unary(path, bytes, bytes)
    await refused(call(b""), grpc.StatusCode.UNAUTHENTICATED)
    token = tuple(bearer(provider.token()).items())
    await refused(call(b"", metadata=token), grpc.StatusCode.UNIMPLEMENTED)
    await refused(gateway.channel.unary_unary(REFLECTION, bytes, bytes)(b""), grpc.StatusCode.UNAUTHENTICATED)


async def test_a_refused_request_is_refused_before_its_body(gateway: Gateway) -> None:
    url = gateway.rest.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /api/v1/projects HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{")
    async with asyncio.timeout(10):
        assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
    writer.close()
    await writer.wait_closed()


async def test_preflights_of_listed_origins_need_no_token(gateway: Gateway) -> None:
    headers = {"origin": CONSOLE, "access-control-request-method": "PUT"}
    assert (await gateway.rest.options("/api/v1/executions/p/d/n", headers=headers)).status_code == 200


async def test_a_page_with_a_session_may_write_only_from_a_listed_origin(gateway: Gateway, provider: Provider) -> None:
    cookie = {"cookie": f"{SESSION}={provider.token()}"}
    web = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    for page, status in (({"origin": CONSOLE}, 200), ({"origin": "https://evil.example"}, 403)):
        for reply in (
            await gateway.rest.post("/api/v1/projects", json={}, headers=cookie | page),
            await gateway.rest.delete("/api/v1/executions/p/d/n", headers=cookie | page),
            await gateway.rest.post(f"/{ADMIN}/RegisterProject", content=b"\0" * 5, headers=cookie | page | web),
        ):
            assert reply.status_code == status, reply.text
        native = cookie | page | {"content-type": "application/grpc"}
        reply = await gateway.rest.post(f"/{ADMIN}/RegisterProject", content=b"\0" * 5, headers=native)
        assert ("grpc-status" in reply.headers) == (status == 403)  # a success has it after its body
        assert reply.headers.get("grpc-status", "7") == "7"
    cross_site = cookie | {"sec-fetch-site": "cross-site"}
    assert (await gateway.rest.post("/api/v1/projects", json={}, headers=cross_site)).status_code == 403


async def test_services_behind_the_gateway_refuse_other_callers(gateway: Gateway) -> None:
    stub = gateway.services["projects"]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stub.port}") as channel:
        call = channel.unary_unary(PATH, GetVersionRequest.SerializeToString, GetVersionResponse.FromString)
        with pytest.raises(Exception, match="only the gateway may call this port"):
            await call(GetVersionRequest(), metadata=((CLAIMS_HEADER, encoded({"sub": "root"})),))


async def test_tokens_of_a_new_key_are_accepted_at_once(gateway: Gateway, provider: Provider) -> None:
    # Tokens that no key fits have the keys fetched, once a second: those of other tests were such.
    await asyncio.sleep(KEYS_FRESH_SECONDS)
    old = provider.token()
    provider.keys.rotate()
    for token in (provider.token(), old):
        results = await asyncio.gather(*(way(gateway, bearer(token)) for way in WAYS.values() for _ in range(20)))
        assert set(results) == {(Code.OK, "")}


async def test_forged_tokens_have_few_keys_fetched(gateway: Gateway, provider: Provider) -> None:
    forged = bearer(WRONG_TOKENS["unknown key"](provider))
    before, began = len(provider.requests), time.monotonic()
    for _ in range(100):
        results = await asyncio.gather(*(by_grpc(gateway, forged) for _ in range(10)))
        assert {code for code, _ in results} == {Code.UNAUTHENTICATED}
    assert len(provider.requests) - before <= 10 * (time.monotonic() - began + 2)
    assert await by_grpc(gateway, bearer(provider.token())) == (Code.OK, "")


async def test_tokens_of_a_withdrawn_key_are_refused_unless_they_were_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_KEYS_SECONDS", "6s")  # Envoy fetches five seconds before that
    with running_provider() as provider:
        async with echoing_gateway(tmp_path, callers=Callers(SECRET), **login(tmp_path, provider)) as gateway:
            used, withdrawn = provider.token(), provider.keys.signing
            assert await by_grpc(gateway, bearer(used)) == (Code.OK, "")
            provider.keys.rotate(keep_old=False)
            unused = (signed(provider.claims(f"user-{number}"), withdrawn) for number in count())
            async with asyncio.timeout(20):
                while (await by_grpc(gateway, bearer(next(unused))))[0] is not Code.UNAUTHENTICATED:
                    pass
            assert await by_grpc(gateway, bearer(used)) == (Code.OK, "")
            assert await by_grpc(gateway, bearer(provider.token())) == (Code.OK, "")


async def test_a_provider_that_is_down_stops_nothing(tmp_path: Path, way: Way) -> None:
    with running_provider() as provider:
        provider.stop()
        async with echoing_gateway(tmp_path, callers=Callers(SECRET), **login(tmp_path, provider)) as gateway:
            assert (await gateway.rest.get("/config/v1/flyte_client")).status_code == 200
            code, message = await way(gateway, bearer(provider.token()))
            assert (code, message) == (Code.UNAVAILABLE, "Jwks remote fetch is failed")
            assert (await way(gateway, {}))[0] is Code.UNAUTHENTICATED
            provider.start()

            await once_available(lambda: version(gateway, provider.token()), "Jwks")
            provider.stop()  # keys that were fetched stay
            assert (await way(gateway, bearer(provider.token())))[0] is Code.OK
            assert (await way(gateway, bearer(WRONG_TOKENS["expired"](provider))))[0] is Code.UNAUTHENTICATED
            assert (await way(gateway, bearer(WRONG_TOKENS["unknown key"](provider))))[0] is Code.UNAVAILABLE


async def test_keys_may_be_a_file_and_the_engine_has_a_key_of_its_own(provider: Provider, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(json.dumps(provider.keys.as_json()))
    (tmp_path / "engine").write_text("the-key-of-the-engine")
    files = {"auth_jwks_file": tmp_path / "keys.json", "engine_key_file": tmp_path / "engine", "auth_jwks_url": ""}
    settings = login(tmp_path, provider) | files
    async with echoing_gateway(tmp_path, callers=Callers(SECRET), **settings) as gateway:
        assert await by_rest(gateway, bearer(provider.token("ann"))) == (Code.OK, "")
        assert await by_grpc(gateway, bearer(signed_by_engine("the-key-of-the-engine", time.time()))) == (Code.OK, "")
        for wrong in (
            signed_by_engine("another-key-of-the-engine", time.time()),
            WRONG_TOKENS["unknown key"](provider),
        ):
            assert (await by_grpc(gateway, bearer(wrong)))[0] is Code.UNAUTHENTICATED
        for way in WAYS.values():
            code, message = await way(gateway, bearer(WRONG_TOKENS["other audience"](provider)))
            assert (code, message) == (Code.UNAUTHENTICATED, authentication.OTHER_AUDIENCE)
        callers = [call.caller for call in gateway.services["projects"].calls]
        assert [(caller.subject, caller.client) for caller in callers] == [
            ("ann", "flytekit"),
            ("engine", "flyteplane-engine"),
        ]

"""Login at the gateway, as rendered: on or off as a whole, and what needs no token."""

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import authentication
from gateway.__main__ import main
from gateway.authentication import SecretError
from gateway.bootstrap import Settings, bootstrap
from gateway.clusters import Address
from gateway.routes import load
from services.kit.process.settings import ProcessSettings
from services.kit.rpc import callers
from tests.support.callers import SECRET

OWNERS = load().owners
UPSTREAMS = [f"--upstream={owner}=127.0.0.1:{8001 + number}" for number, owner in enumerate(OWNERS)]
ISSUER = "https://login.example/realms/flyte"
KEYS = f"{ISSUER}/keys"
LOGIN = [f"--auth-issuer={ISSUER}", "--auth-audience=flyte"]


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """Return a file with the gateway's secret."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    return file


def rendered(tmp_path: Path, *arguments: str) -> Any:
    """Return Envoy's configuration for these options."""
    main(["render", "--out", str(tmp_path / "out"), "--objects=127.0.0.1:1", *UPSTREAMS, *arguments])
    return yaml.load((tmp_path / "out" / "envoy.yaml").read_text(), yaml.CSafeLoader)


def manager_of(config: Any) -> Any:
    (listener,) = config["static_resources"]["listeners"]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def login_of(config: Any) -> Any:
    (found,) = [each for each in manager_of(config)["http_filters"] if each["name"] == authentication.FILTER]
    return found["typed_config"]


def test_without_an_issuer_there_is_no_login(tmp_path: Path) -> None:
    config = rendered(tmp_path)
    text = (tmp_path / "out" / "envoy.yaml").read_text()
    for word in ("jwt", "identity-provider", "request_headers_to_remove", authentication.GATEWAY_HEADER):
        assert word not in text
    assert "x-flyteplane-" in str(manager_of(config)["early_header_mutation_extensions"])


def test_a_secret_alone_is_sent_to_services_and_changes_nothing_else(tmp_path: Path, secret_file: Path) -> None:
    without, with_secret = (rendered(tmp_path, *each) for each in ([], [f"--gateway-secret-file={secret_file}"]))
    header = manager_of(with_secret)["route_config"]["request_headers_to_add"].pop()
    assert header["header"] == {"key": callers.GATEWAY_HEADER, "value": SECRET}
    assert with_secret == without


def test_the_configuration_is_readable_by_its_owner_only(tmp_path: Path, secret_file: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "envoy.yaml").write_text("")
    rendered(tmp_path, f"--gateway-secret-file={secret_file}")
    assert stat.S_IMODE((tmp_path / "out" / "envoy.yaml").stat().st_mode) == 0o600


def test_headers_have_the_names_that_services_read() -> None:
    assert (authentication.CLAIMS_HEADER, authentication.GATEWAY_HEADER) == (
        callers.CLAIMS_HEADER,
        callers.GATEWAY_HEADER,
    )


def test_everything_needs_a_token_but_what_is_listed(tmp_path: Path, secret_file: Path) -> None:
    config = rendered(tmp_path, f"--gateway-secret-file={secret_file}", *LOGIN, f"--auth-jwks-url={KEYS}")
    *anonymous, rest = login_of(config)["rules"]
    assert rest["match"] == {"prefix": "/"}
    assert rest["requires"] == {
        "requires_any": {"requirements": [{"provider_name": "usual"}, {"provider_name": "fresh"}]}
    }
    assert [rule["match"] for rule in anonymous if "requires" not in rule] == [
        {"path": "/healthcheck"},
        {"path": "/config/v1/flyte_client"},
        {"path": "/login"},
        {"path": "/callback"},
        {"path": "/logout"},
        {"prefix": "/flyteidl.service.AuthMetadataService/"},
        {"prefix": "/grpc.health.v1.Health/"},
        {"prefix": "/.well-known/"},
        {"prefix": "/objects/"},
    ]


def test_providers_check_issuer_audience_and_expiry(tmp_path: Path, secret_file: Path) -> None:
    config = rendered(tmp_path, f"--gateway-secret-file={secret_file}", *LOGIN, f"--auth-jwks-url={KEYS}")
    providers = login_of(config)["providers"]
    for provider in providers.values():
        assert (provider["issuer"], provider["audiences"], provider["require_expiration"]) == (ISSUER, ["flyte"], True)
        assert provider["remote_jwks"]["http_uri"]["uri"] == KEYS
        assert "forward" not in provider
    assert providers["usual"]["remote_jwks"]["async_fetch"]["fast_listener"]
    assert "async_fetch" not in providers["fresh"]["remote_jwks"]


def test_no_service_receives_tokens(tmp_path: Path, secret_file: Path) -> None:
    config = rendered(tmp_path, f"--gateway-secret-file={secret_file}", *LOGIN, f"--auth-jwks-url={KEYS}")
    routes = manager_of(config)["route_config"]["virtual_hosts"][0]["routes"]
    # Requests leave by these; the routes of REST and of pages only give them their filters.
    leaving = [each for each in routes if "retry_policy" in each.get("route", {})]
    leaving += [each for each in routes if each["match"].get("path") == "/grpc.health.v1.Health/Check"]
    assert len(leaving) == len(load().methods) + 3
    for route in leaving:
        assert route["request_headers_to_remove"] == ["authorization", "flyte-authorization", "cookie"]


@pytest.mark.parametrize(
    ("url", "address", "secure"),
    [
        ("https://login.example/keys", ("login.example", 443), True),
        ("https://login.example:8443/keys", ("login.example", 8443), True),
        ("http://127.0.0.1:8080/keys", ("127.0.0.1", 8080), False),
        ("https://[::1]:8443/keys", ("::1", 8443), True),
    ],
)
def test_keys_come_over_tls_that_is_checked(
    tmp_path: Path, secret_file: Path, url: str, address: tuple[str, int], secure: bool
) -> None:
    config = rendered(tmp_path, f"--gateway-secret-file={secret_file}", *LOGIN, f"--auth-jwks-url={url}")
    (cluster,) = [each for each in config["static_resources"]["clusters"] if each["name"] == authentication.CLUSTER]
    (endpoints,) = cluster["load_assignment"]["endpoints"]
    assert endpoints["lb_endpoints"] == [{"endpoint": {"address": Address(*address).as_envoy()}}]
    assert ("transport_socket" in cluster) == secure
    if secure:
        checks = cluster["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
        (name,) = checks["match_typed_subject_alt_names"]
        assert name["matcher"] == {"exact": address[0]}
        assert checks["trusted_ca"]["filename"]


def test_keys_may_be_a_file(tmp_path: Path, secret_file: Path) -> None:
    keys = tmp_path / "keys.json"
    config = rendered(tmp_path, f"--gateway-secret-file={secret_file}", *LOGIN, f"--auth-jwks-file={keys}")
    assert login_of(config)["providers"]["usual"]["local_jwks"] == {"filename": str(keys)}
    assert list(login_of(config)["providers"]) == ["usual"]
    assert authentication.CLUSTER not in [each["name"] for each in config["static_resources"]["clusters"]]


def test_discovery_leads_to_the_provider(tmp_path: Path, secret_file: Path) -> None:
    config = rendered(tmp_path, f"--gateway-secret-file={secret_file}", *LOGIN, f"--auth-jwks-url={KEYS}")
    routes = manager_of(config)["route_config"]["virtual_hosts"][0]["routes"]
    (route,) = [each for each in routes if each["match"].get("path") == "/.well-known/openid-configuration"]
    assert route["direct_response"] == {"status": 303}
    assert route["response_headers_to_add"][0]["header"] == {
        "key": "location",
        "value": f"{ISSUER}/.well-known/openid-configuration",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*LOGIN, f"--auth-jwks-url={KEYS}"], "gateway_secret_file is needed for login"),
        (["--gateway-secret-file=/nowhere"], "/nowhere cannot be read"),
        ([f"--auth-issuer={ISSUER}", f"--auth-jwks-url={KEYS}"], "auth_audiences is needed"),
        (LOGIN, "auth_jwks_url or auth_jwks_file is needed"),
        ([*LOGIN, f"--auth-jwks-url={KEYS}", "--auth-jwks-file=keys.json"], "and not both"),
        (["--auth-audience=flyte"], "settings of login need auth_issuer"),
        ([f"--auth-jwks-url={KEYS}"], "settings of login need auth_issuer"),
        (["--auth-issuer=login.example"], "--auth-issuer: String should match pattern"),
        ([f"--auth-issuer={ISSUER}", "--auth-audience="], "--auth-audience: String should have at least 1 character"),
    ],
)
def test_half_a_login_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        main(["render", "--out", str(tmp_path / "out"), *UPSTREAMS, *arguments])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["", "short", "x" * 257, f"{SECRET} {SECRET}", f"{SECRET}\n\n", f"{SECRET}é"])
def test_gateway_and_services_accept_the_same_secrets(tmp_path: Path, content: str) -> None:
    file = tmp_path / "secret"
    file.write_text(content)
    settings = Settings(gateway_secret_file=file, upstreams={owner: [Address("127.0.0.1", 1)] for owner in OWNERS})
    with pytest.raises(SecretError, match="must have 16 to 256 visible ASCII characters"):
        bootstrap(load(), tmp_path, settings)
    if content:  # a service without a secret accepts all
        with pytest.raises(ValueError, match="pattern"):
            ProcessSettings(gateway_secret=content)
    assert ProcessSettings(gateway_secret=SECRET).gateway_secret == SECRET

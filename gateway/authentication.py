"""Login: Envoy validates the tokens of callers, and passes on their claims and its own secret.

Without an issuer none of this is in the configuration, except that clients cannot send the headers that services
believe (docs/decisions/0035-who-calls.md).
"""

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway import clusters
from gateway.clusters import Address

FILTER = "envoy.filters.http.jwt_authn"
CLUSTER = "identity-provider"

# The same as in services/kit/rpc/callers.py. Services believe headers with the prefix, so clients cannot send any.
OWN_PREFIX = "x-flyteplane-"
CLAIMS_HEADER = OWN_PREFIX + "claims"
GATEWAY_HEADER = OWN_PREFIX + "gateway"

SESSION_COOKIE = "flyteplane_session"
"""The cookie with the token of a browser."""
TOKEN_HEADERS = ("authorization", "flyte-authorization")
BEARER = "Bearer "

# What needs no token: how to log in, and whether the gateway is alive. Everything else needs one.
ANONYMOUS_PATHS = ("/healthcheck", "/config/v1/flyte_client", "/login", "/callback", "/logout")
ANONYMOUS_PREFIXES = ("/flyteidl.service.AuthMetadataService/", "/grpc.health.v1.Health/", "/.well-known/")
DISCOVERY = "/.well-known/openid-configuration"

# As in deploy/sandbox/engine/own_tokens.py.
ENGINE_ISSUER = "flyteplane-engine"
ENGINE_AUDIENCE = "flyteplane"

# Keys are fetched again this often, and in between for a token that none of them fits: providers announce a new key a
# day before its first use at best, and at that moment at worst.
_KEYS_SECONDS = "60s"
# The age from which on such a token has the keys fetched. Forged tokens can have them fetched this often.
_FRESH_SECONDS = "1s"
# At the start, while the provider is unavailable. Keys that were fetched once are used until others are.
_REFETCH_SECONDS = "1s"
_FETCH_TIMEOUT = "5s"
_CONNECT_TIMEOUT = "2s"
# Verified tokens that are kept, by their text: each event of an engine has the same for an hour, and to read one and to
# verify its signature takes 45 µs. Some MB in each thread of Envoy.
_KEPT_TOKENS = 1000
# Fetches that tokens without a key may cause until the first of them has its response: at a time, and waiting. Further
# ones fail at once, as a flood of forged tokens must not become one at the provider.
_MOST_FETCHES, _MOST_WAITING = 8, 120

# Where systems have the certificates of public authorities: Debian, its derivatives and Alpine; Red Hat; SUSE.
_SYSTEM_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_MUTATION = "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"

# Texts of Envoy's reasons, which choose the status (local_replies.py).
REFUSAL = "refusal"
OTHER_AUDIENCE = "Audiences in Jwt are not allowed"
NO_KEYS = "Jwks remote fetch is failed"

# As the setting `gateway_secret` of the services.
_SECRET = re.compile(r"[!-~]{16,256}")


class SecretError(ValueError):
    """The file of the gateway's secret cannot be read, or has no secret."""


@dataclass(frozen=True)
class Login:
    """How callers are authenticated.

    Attributes:
        issuer: the claim `iss` of tokens.
        audiences: a token must have one of them as its claim `aud`.
        jwks_url: where the provider publishes its keys; "" if they are in `jwks_file`.
        jwks_file: the keys, as a JSON Web Key Set.
        ca_file: certificates of the authorities of the provider's certificate; none: the system's.
        engine_key: the key of tokens that an engine signs itself, "" for none.
    """

    issuer: str
    audiences: Sequence[str]
    jwks_url: str = ""
    jwks_file: Path | None = None
    ca_file: Path | None = None
    engine_key: str = ""


def read_secret(file: Path) -> str:
    """Return the secret in `file`, without a line end after it; raise SecretError."""
    try:
        secret = file.read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(f"{file} cannot be read: {error}") from error
    if not _SECRET.fullmatch(secret):
        raise SecretError(f"{file} must have 16 to 256 visible ASCII characters")
    return secret


def header_removal() -> list[dict[str, Any]]:
    """Return the extensions of the connection manager that remove the gateway's own headers from what clients send.

    They act before the route is chosen and before any filter.
    """
    mutations = [{"remove_on_match": {"key_matcher": {"prefix": OWN_PREFIX}}}]
    return [
        {
            "name": "envoy.http.early_header_mutation.header_mutation",
            "typed_config": {"@type": _MUTATION, "mutations": mutations},
        }
    ]


def http_filter(login: Login, objects_prefix: str) -> dict[str, Any]:
    """Return the filter that refuses requests without a valid token.

    Several tokens of a request must all be valid. Their claims are headers in this order: cookie,
    `flyte-authorization`, `authorization`; services read the last.
    """
    # Local replies read why a token was refused. An engine's provider is asked last, and would say the wrong issuer.
    reports = {"failed_status_in_metadata": REFUSAL}
    providers = {"usual": _provider(login, _keys(login, _periodically()) | reports)}
    if login.jwks_url:
        # Envoy does not fetch keys for a key id that it does not know. The second provider differs in the age of its
        # keys alone, and is asked when the first one has refused a token.
        providers["fresh"] = _provider(login, _keys(login, {"cache_duration": _FRESH_SECONDS}) | reports)
    if login.engine_key:
        of_engine = Login(ENGINE_ISSUER, [ENGINE_AUDIENCE])
        providers["engine"] = _provider(of_engine, {"local_jwks": {"inline_string": _key_set(login.engine_key)}})
    requirements = [{"provider_name": name} for name in providers]
    anonymous = [
        *({"path": path} for path in ANONYMOUS_PATHS),
        # A signed URL is a credential of its own.
        *({"prefix": prefix} for prefix in (*ANONYMOUS_PREFIXES, objects_prefix)),
    ]
    return {
        "name": FILTER,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": providers,
            "rules": [
                *({"match": match} for match in anonymous),
                {
                    "match": {"prefix": "/"},
                    "requires": {"requires_any": {"requirements": requirements}},
                },
            ],
        },
    }


def _provider(login: Login, more: dict[str, Any]) -> dict[str, Any]:
    """Return a provider of the filter; `more` has its keys."""
    return {
        "issuer": login.issuer,
        "audiences": list(login.audiences),
        "require_expiration": True,
        **more,
        "from_headers": [{"name": name, "value_prefix": BEARER} for name in TOKEN_HEADERS],
        "from_cookies": [SESSION_COOKIE],
        "forward_payload_header": CLAIMS_HEADER,
        "jwt_cache_config": {"jwt_cache_size": _KEPT_TOKENS},
    }


def _keys(login: Login, cache: dict[str, Any]) -> dict[str, Any]:
    if login.jwks_file:
        return {"local_jwks": {"filename": str(login.jwks_file.absolute())}}
    uri = {"uri": login.jwks_url, "cluster": CLUSTER, "timeout": _FETCH_TIMEOUT}
    return {"remote_jwks": {"http_uri": uri, **cache}}


def _key_set(secret: str) -> str:
    """Return a secret as a JSON Web Key Set, for tokens with the algorithm HS256."""
    key = urlsafe_b64encode(secret.encode()).rstrip(b"=").decode()
    return json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": key}]})


def _periodically() -> dict[str, Any]:
    """Return when keys are fetched: in the background, and the listener does not wait for them."""
    fetch = {"fast_listener": True, "failed_refetch_duration": _REFETCH_SECONDS}
    return {"cache_duration": _KEYS_SECONDS, "async_fetch": fetch}


def cluster(login: Login) -> dict[str, Any]:
    """Return the cluster of the provider's keys."""
    url = urlsplit(login.jwks_url)
    secure = url.scheme == "https"
    host = url.hostname or ""
    address = Address(host, url.port or (443 if secure else 80))
    limits = {"max_connections": _MOST_FETCHES, "max_pending_requests": _MOST_WAITING}
    return {
        "name": CLUSTER,
        **clusters.discovery([address]),
        "connect_timeout": _CONNECT_TIMEOUT,
        "circuit_breakers": {"thresholds": [limits]},
        **({"transport_socket": _transport_socket(address, login.ca_file)} if secure else {}),
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address.as_envoy()}}]}],
        },
    }


def _transport_socket(address: Address, ca_file: Path | None) -> dict[str, Any]:
    name = {"san_type": "IP_ADDRESS" if address.is_fixed else "DNS", "matcher": {"exact": address.host}}
    authorities = str(ca_file.absolute()) if ca_file else _system_authorities()
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": _TLS,
            **({} if address.is_fixed else {"sni": address.host}),
            "common_tls_context": {
                "validation_context": {
                    "trusted_ca": {"filename": authorities},
                    "match_typed_subject_alt_names": [name],
                },
            },
        },
    }


def _system_authorities() -> str:
    existing = (file for file in _SYSTEM_AUTHORITIES if Path(file).exists())
    return next(existing, _SYSTEM_AUTHORITIES[0])

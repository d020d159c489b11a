"""Envoy's clusters: the services behind the gateway.

A service that was killed must be reachable again as soon as it listens. So a single server is never ejected, neither
as an outlier nor by health checks; where there are several, the others take over at once.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway import limits

# Loopback refuses at once; in a cluster a dead pod's address does not respond, and the retry goes to another pod.
CONNECT_TIMEOUT = "0.5s"
# How long a new pod, or a vanished one, may go unnoticed in DNS. Failures are looked up again sooner.
DNS = {
    "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
    "dns_lookup_family": "V4_PREFERRED",
    "dns_refresh_rate": "5s",
    "dns_failure_refresh_rate": {"base_interval": "0.5s", "max_interval": "2s"},
}

# Bounds against a flood, far above what the services can serve. Envoy's default of 1024 would return UNAVAILABLE in an
# ordinary burst of a large workflow.
MOST_REQUESTS = 10_000
# All of them may wait for a retry at a time, as they do while a service restarts. A retry budget is a share of the
# requests that are active, which are none then, so most callers would get UNAVAILABLE at once. The load of retries is
# bounded because each request has few, with pauses (routes.toml).
MOST_RETRIES = MOST_REQUESTS

# The largest Envoy allows. It bounds headers and trailers, and an error's text travels there twice: as grpc-message
# and in base64 among the details. The default of 60 KiB turned long errors into UNAVAILABLE
# (gateway.md#sizes-of-errors).
MOST_HEADERS_KB = 8192
# The largest Envoy allows for one field, which is grpc-status-details-bin. By default a field above 64 KiB ends the
# whole connection, with every call on it.
LARGEST_HEADER_KB = 256
CONCURRENT_STREAMS = 1000
# The bytes of one response that a service may send before its client reads them. The calls of all clients share
# connections: the window of a connection is the sum of its streams' windows, so clients that do not read stall no
# other client.
STREAM_WINDOW = limits.STREAM_WINDOW
CONNECTION_WINDOW = CONCURRENT_STREAMS * STREAM_WINDOW
# Bytes of requests that wait to be written to a service. Above it Envoy reads no more of any request on the connection,
# so calls with large headers held up the calls of all other clients: enough for the headers of all streams, twice, as
# REST requests also have their original path.
CONNECTION_BUFFER = 2 * CONCURRENT_STREAMS * limits.MOST_HEADERS_KB * limits.KIB

# Against a peer that vanished without closing: probes by the kernel, and one HTTP/2 ping before a request on a
# connection that was idle for long. No pings at intervals: gRPC servers end connections that ping without a call
# (gateway.md#connections).
TCP_KEEPALIVE = {"keepalive_time": 10, "keepalive_interval": 5, "keepalive_probes": 3}
PING_BEFORE_USE = {"connection_idle_interval": "30s", "timeout": "2s"}

# uvicorn closes a connection that was idle for 5 s; closing first, no request can run into that.
HTTP_IDLE = "3s"

# With several servers: one that fails to respond this often in a row is ejected for a moment.
OUTLIERS = {
    "consecutive_gateway_failure": 5,
    "enforcing_consecutive_gateway_failure": 100,
    "enforcing_consecutive_5xx": 0,  # a server that returns INTERNAL is reachable
    "enforcing_success_rate": 0,
    "interval": "1s",
    "base_ejection_time": "2s",
    "max_ejection_time": "10s",
    "max_ejection_percent": 50,
}
# A server that stops serving gets no new requests after two seconds at the latest. A grpcio server reports NOT_SERVING
# while it drains. An HTTP/2 server sends GOAWAY, which ends its connections for new requests at once, and refuses
# checks.
HEALTH_TIMES = {
    "interval": "2s",
    "no_traffic_interval": "2s",
    "timeout": "1s",
    "unhealthy_threshold": 1,
    "healthy_threshold": 1,
}
HEALTH_CHECK = {**HEALTH_TIMES, "grpc_health_check": {}}
HTTP_HEALTH_CHECK = {**HEALTH_TIMES, "http_health_check": {"path": "/healthz"}}

UNIX = "unix:"
"""Prefix of the address of a socket in the file system."""

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


class AddressError(ValueError):
    """An address is neither `host:port` nor `unix:PATH`."""


@dataclass(frozen=True)
class Address:
    """The address of a listener: a DNS name or an IP address, and a port; or a socket at an absolute path, port 0."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `host:port`, `127.0.0.1:80`, `[::1]:80` or `unix:/path`; raise AddressError."""
        if text.startswith(UNIX + "/"):
            return cls(text.removeprefix(UNIX), 0)
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal():
            raise AddressError(f"{text!r} is not host:port or {UNIX}/path")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    @property
    def is_socket(self) -> bool:
        """Return whether this is a socket in the file system, not an address in the network."""
        return self.host.startswith("/")

    @property
    def is_fixed(self) -> bool:
        """Return whether this is an IP address or a socket, not a DNS name."""
        if self.is_socket:
            return True
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    def as_envoy(self, mode: int | None = None) -> dict[str, Any]:
        """Return Envoy's form; a socket to listen on gets the permissions `mode`."""
        if self.is_socket:
            return {"pipe": {"path": self.host, **({} if mode is None else {"mode": mode})}}
        return {"socket_address": {"address": self.host, "port_value": self.port}}


def grpc_cluster(name: str, addresses: Sequence[Address]) -> dict[str, Any]:
    """Return the cluster of a service: gRPC over clear-text HTTP/2."""
    cluster = _cluster(name, addresses, CONNECTION_BUFFER) | {
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{HTTP_OPTIONS}",
                "common_http_protocol_options": {"max_response_headers_kb": MOST_HEADERS_KB},
                "explicit_http_config": {
                    "http2_protocol_options": {
                        "max_concurrent_streams": CONCURRENT_STREAMS,
                        "initial_stream_window_size": STREAM_WINDOW,
                        "initial_connection_window_size": CONNECTION_WINDOW,
                        "max_header_field_size_kb": LARGEST_HEADER_KB,
                        "connection_keepalive": PING_BEFORE_USE,
                    },
                },
            },
        },
    }
    return cluster | _health_checked(addresses, HEALTH_CHECK)


def http_cluster(name: str, addresses: Sequence[Address]) -> dict[str, Any]:
    """Return the cluster of a plain HTTP/1.1 server."""
    # Each connection has one request, so nothing else waits when a slow client fills its buffer.
    cluster = _cluster(name, addresses, limits.CONNECTION_BUFFER) | {
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{HTTP_OPTIONS}",
                "common_http_protocol_options": {"idle_timeout": HTTP_IDLE},
                "explicit_http_config": {"http_protocol_options": {}},
            },
        },
    }
    return cluster | _health_checked(addresses, HTTP_HEALTH_CHECK)


def discovery(addresses: Sequence[Address]) -> dict[str, Any]:
    """Return how the servers of a cluster are found: by DNS, unless all addresses are fixed."""
    if all(address.is_fixed for address in addresses):
        return {"type": "STATIC"}
    return {"cluster_type": {"name": "envoy.cluster.dns", "typed_config": DNS}}


def _health_checked(addresses: Sequence[Address], health_check: dict[str, Any]) -> dict[str, Any]:
    if len(addresses) > 1 or not addresses[0].is_fixed:
        return {"health_checks": [health_check], "outlier_detection": OUTLIERS}
    return {}


def _cluster(name: str, addresses: Sequence[Address], buffer: int) -> dict[str, Any]:
    thresholds = {
        "max_connections": MOST_REQUESTS,
        "max_pending_requests": MOST_REQUESTS,
        "max_requests": MOST_REQUESTS,
        "max_retries": MOST_RETRIES,
    }
    return {
        "name": name,
        **discovery(addresses),
        "connect_timeout": CONNECT_TIMEOUT,
        "per_connection_buffer_limit_bytes": buffer,
        "circuit_breakers": {"thresholds": [thresholds]},
        **({} if addresses[0].is_socket else {"upstream_connection_options": {"tcp_keepalive": TCP_KEEPALIVE}}),
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address.as_envoy()}} for address in addresses]},
            ],
        },
    }

"""A listener for probes and Prometheus: two paths of Envoy's admin interface, and no other.

A client of the admin interface can stop the gateway and read its memory, so it stays on loopback or a socket.
"""

from typing import Any

from gateway import filters
from gateway.clusters import Address

CLUSTER = "admin"
METRICS, READY = "/stats/prometheus", "/ready"

_GET = {"name": ":method", "string_match": {"exact": "GET"}}
_CONNECT_TIMEOUT = "1s"
# A page of all metrics takes milliseconds.
_TIMEOUT = "10s"


def cluster(admin: Address) -> dict[str, Any]:
    """Return the cluster of the admin interface."""
    endpoint = {"endpoint": {"address": admin.as_envoy()}}
    return {
        "name": CLUSTER,
        "type": "STATIC",
        "connect_timeout": _CONNECT_TIMEOUT,
        "load_assignment": {"cluster_name": CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def listener(address: Address) -> dict[str, Any]:
    """Return the listener on `address`."""
    routes = [
        {"match": {"path": path, "headers": [_GET]}, "route": {"cluster": CLUSTER, "timeout": _TIMEOUT}}
        for path in (METRICS, READY)
    ]
    manager = {
        "@type": "type.googleapis.com/"
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "stats",
        "http_filters": [
            {
                "name": filters.ROUTER,
                "typed_config": {"@type": f"{filters.EXTENSIONS}.router.v3.Router"},
            },
        ],
        "route_config": {
            "name": "stats",
            "virtual_hosts": [{"name": "stats", "domains": ["*"], "routes": routes}],
        },
    }
    return {
        "name": "stats",
        "address": address.as_envoy(),
        # As for clients: no two gateways share the port.
        "enable_reuse_port": False,
        # While the overload manager refuses connections of clients, probes must still get through.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }

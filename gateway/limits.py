"""Bounds of what clients may use up of the gateway: memory, connections, streams and time.

The gateway does not identify its callers, so the bounds are for a connection, a stream, or the process as a whole.
"""

from typing import Any

KIB = 1024
MIB = 1024 * KIB

# As in flyteadmin: a client that does not finish its headers is disconnected.
HEADERS_TIMEOUT = "32s"
# A connection without a request. gRPC clients open another one when they need it.
CONNECTION_IDLE = "60s"
# For the TLS handshake of a new connection.
HANDSHAKE_TIMEOUT = "15s"
# For the streams that may be idle: Health/Watch and reflection, in either direction.
STREAM_IDLE = "300s"
# From the first byte of a request to the last of its response, unless its route sets another limit: the longest time
# limit of routes.toml, and as much again for a slow body. `timeout` of a route counts from the end of the body only.
LONGEST_REQUEST = "120s"
# Between two pieces of a body that is not complete yet.
BODY_IDLE = "10s"

# All headers of a request, the path with its query among them. Those of Flyte's clients have 1 KiB, of browsers a few.
MOST_HEADERS_KB = 16
# Of HPACK's dynamic table of a client: with one, a client repeats a large field for a byte each time, and it costs
# memory here and work in the services as if it had been sent.
HEADER_TABLE = 0

# Open streams of one connection. The engine sends the events of all its workers through one connection; gRPC clients
# queue further calls themselves. A flood from one connection leaves capacity in the services for others.
STREAMS = 256
# Bytes that a stream, or a connection, may send before they are read: enough for 2.5 MB/s to a client 100 ms away.
STREAM_WINDOW = 256 * KIB
CONNECTION_WINDOW = 8 * MIB
# Bytes of a message that are buffered, in either direction, when the other side is slower.
CONNECTION_BUFFER = 256 * KIB
# Bytes of a request that are buffered for a retry; a longer request is not retried.
RETRY_BUFFER = 256 * KIB

# Far above what a platform opens; a bound so that a flood ends in refused connections and not in a killed process.
MOST_CONNECTIONS = 20_000

# Bytes that the unfinished bodies of REST requests may have together, and the size from which on a body counts. Envoy
# resets streams of HTTP/2 alone when memory is short; on HTTP/1.1 unfinished bodies would take all of it.
UNFINISHED_BODIES = 64 * MIB
COUNTED_BODY = 16 * KIB
# From the first byte of a REST request to the last of its body: as many times BODY_IDLE as services allow
# (TOTAL_TIME_FACTOR in services/kit/rpc/fairness.py).
LONGEST_BODY = "60s"
# Pairs of a REST query, each of which keeps Envoy busy; the largest request messages of such methods have ten fields.
MOST_QUERY_PAIRS = 256

# Memory of all requests and responses together. REST messages are buffered as a whole, everything else streams.
HEAP = 512 * MIB
# From this share of the heap on, the largest streams are reset; the fuller the heap, the more of them.
RESET_FROM, RESET_ALL = 0.4, 0.9
# The least that a stream buffers to be among them, as a power of two: 128 KiB. Envoy sorts streams into eight sizes
# from this one on, each twice the one before, and resets the next smaller size with each eighth of the way from
# RESET_FROM to RESET_ALL. So bodies of 4 MiB are reset early, at some 300 MB, and streams below 128 KiB never.
LARGE_STREAM_POWER = 17
# Meanwhile connections without a request are closed sooner, down to this time. A client on HTTP/1.1 that does not read
# its reply has such a connection, and the reply is in memory until it ends.
LEAST_CONNECTION_IDLE = "1s"
# From this share of the heap on, connections have no longer: a connection is closed some seconds after its time.
CLOSE_IDLE = 0.6
# Other requests are refused only when that was not enough.
REFUSE_FROM = 0.95
# How often the heap is measured: bodies can arrive at some 100 MB a second.
HEAP_REFRESH = "0.1s"
# The share of the heap that is always in use, so the action is always on: every ten seconds Envoy returns much free
# memory to the system.
SHRINK_FROM = 0.001

_SCALED_TIMERS = "type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig"
_IDLE_CONNECTIONS = {"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": LEAST_CONNECTION_IDLE}
_HEAP = "envoy.resource_monitors.fixed_heap"
_MONITORS = "type.googleapis.com/envoy.extensions.resource_monitors"


def of_connections() -> dict[str, Any]:
    """Return the connection manager's settings that bound what one connection may do."""
    return {
        "common_http_protocol_options": {"idle_timeout": CONNECTION_IDLE, "max_stream_duration": LONGEST_REQUEST},
        "max_request_headers_kb": MOST_HEADERS_KB,
        "http2_protocol_options": {
            "hpack_table_size": HEADER_TABLE,
            "max_concurrent_streams": STREAMS,
            "initial_stream_window_size": STREAM_WINDOW,
            "initial_connection_window_size": CONNECTION_WINDOW,
        },
        "request_headers_timeout": HEADERS_TIMEOUT,
        "stream_idle_timeout": STREAM_IDLE,
    }


def overload_manager() -> dict[str, Any]:
    """Return Envoy's overload manager: its actions when connections or memory run out."""
    return {
        "refresh_interval": HEAP_REFRESH,
        "resource_monitors": [
            _monitor(
                "envoy.resource_monitors.global_downstream_max_connections",
                "downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=MOST_CONNECTIONS,
            ),
            _monitor(_HEAP, "fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=HEAP),
        ],
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": LARGE_STREAM_POWER},
        "actions": [
            _action("shrink_heap", threshold={"value": SHRINK_FROM}),
            _action(
                "reset_high_memory_stream",
                scaled={"scaling_threshold": RESET_FROM, "saturation_threshold": RESET_ALL},
            ),
            _action(
                "reduce_timeouts",
                scaled={"scaling_threshold": RESET_FROM, "saturation_threshold": CLOSE_IDLE},
            )
            | {"typed_config": {"@type": _SCALED_TIMERS, "timer_scale_factors": [_IDLE_CONNECTIONS]}},
            _action("disable_http_keepalive", threshold={"value": REFUSE_FROM}),
            _action("stop_accepting_requests", threshold={"value": REFUSE_FROM}),
        ],
    }


def _monitor(name: str, kind: str, **settings: object) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_MONITORS}.{kind}", **settings}}


def _action(name: str, **trigger: object) -> dict[str, Any]:
    return {"name": f"envoy.overload_actions.{name}", "triggers": [{"name": _HEAP, **trigger}]}

"""Logs and metrics of a service: one JSON line per call, counters for Prometheus.

Spans of RPCs come from Envoy; OpenTelemetry's gRPC instrumentation costs a third of the CPU even when nothing is
sampled. The line of a call has the caller's `traceparent`, which relates it to Envoy's span.
"""

import asyncio
import contextlib
import json
import logging
import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

from prometheus_client import REGISTRY, Gauge
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

OUTBOX_WAITING = Gauge(
    "flyteplane_outbox_waiting", "Announcements that the relay found when it last read the outbox, 100 at most"
)
# The metric has the name that it had in earlier releases.
OBJECTS_LOST = CounterMetric(
    "flyteplane_objects_missed", "Objects that a reply needed and that are permanently lost", ["reason"]
)
AUDIT_RECORDS_LOST = CounterMetric(
    "flyteplane_audit_records_lost", "Audit records that are in the log of the process instead of the table"
)

# From a read from memory (half a millisecond) to the timeout of clients (15 s).
_CALL_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15)

_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Calls(Collector):
    """Metrics and log lines of calls; lines only after `log_to`.

    It does not use prometheus-client's counters or log records: for each call, they would cost as much as the rest of a
    small call. The lines of one turn of the event loop are written together.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._buckets: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(_CALL_SECONDS) + 1))
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._stream: TextIO | None = None
        self._line_middle = ""
        self._lines: list[str] = []
        self._now = ""

    def log_to(self, stream: TextIO | None, service: str) -> None:
        """Write a line per call to `stream` from now on; None stops that."""
        self._stream = stream
        self._line_middle = f'", "level": "info", "service": {json.dumps(service)}, "message": "call", "method": '

    def record(self, method: str, path: str, code: str, seconds: float, traceparent: str) -> None:
        """Count a finished call, and log it.

        Args:
            method: label of the metrics, from a bounded set of names.
            path: full gRPC path, for the log.
            code: name of the status code.
            seconds: duration of the call.
            traceparent: trace context of the caller; may be empty.
        """
        self._counts[method, code] += 1
        self._buckets[method][bisect_left(_CALL_SECONDS, seconds)] += 1
        self._seconds[method] += seconds
        if self._stream is None:
            return
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write)
            self._now = _now()  # one time is enough for all calls of a turn
        # Both come from callers and may contain any characters.
        named, trace = json.dumps(path), json.dumps(traceparent) if traceparent else '""'
        self._lines.append(
            f'{{"time": "{self._now}{self._line_middle}{named}, "code": "{code}", "ms": {seconds * 1000:.2f}, '
            f'"traceparent": {trace}}}\n'
        )

    def _write(self) -> None:
        text = "".join(self._lines)
        self._lines.clear()
        if self._stream is not None:
            # On a full disk only lines are lost; buffering them would fill the memory.
            with contextlib.suppress(OSError):
                self._stream.write(text)
                self._stream.flush()

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """Yield the metrics for Prometheus."""
        calls = CounterMetricFamily("flyteplane_calls", "RPCs answered", labels=["method", "code"])
        for (method, code), count in self._counts.items():
            calls.add_metric([method, code], count)
        yield calls
        seconds = HistogramMetricFamily("flyteplane_call_seconds", "Time to answer an RPC", labels=["method"])
        for method, buckets in self._buckets.items():
            total = 0
            cumulated = []
            for bound, count in zip((*map(str, _CALL_SECONDS), "+Inf"), buckets, strict=True):
                total += count
                cumulated.append((bound, float(total)))
            seconds.add_metric([method], cumulated, self._seconds[method])
        yield seconds


CALLS = Calls()
REGISTRY.register(CALLS)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# uvicorn's line for a response that is ended early: that of a slow reader, or of an object that cannot be read further,
# which has a line of its own.
_ENDED_EARLY = "ASGI callable returned without completing response."


class JsonLines(logging.Formatter):
    """Formats a log record as one line of JSON; values passed as `extra` become fields."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`; non-ASCII characters are not escaped."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _RECORD_FIELDS}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def log_as_json(service: str, level: str) -> None:
    """Send every log record of the process to standard output as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    CALLS.log_to(sys.stdout if logging.getLogger().isEnabledFor(logging.INFO) else None, service)
    for chatty in ("uvicorn.access", "uvicorn.error", "nats.aio.client", "alembic.runtime.migration"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != _ENDED_EARLY)

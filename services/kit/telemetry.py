"""What a service tells its operators: one JSON line a call, counters for Prometheus.

Spans of RPCs come from Envoy; OpenTelemetry's own gRPC instrumentation costs a third of the CPU even when nothing is
sampled (architecture, section 4). A line carries the caller's `traceparent`, which ties it to Envoy's span.
"""

import json
import logging
import sys
from datetime import UTC, datetime

from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter("flyteplane_calls_total", "RPCs answered", ["method", "code"])
CALL_SECONDS = Histogram(
    "flyteplane_call_seconds",
    "Time to answer an RPC",
    ["method"],
    # Half a millisecond is a read from memory; 15 s is where clients give up.
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15),
)
OUTBOX_WAITING = Gauge("flyteplane_outbox_waiting", "Facts committed and not yet published")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """A record as one line of JSON; what a call site adds with `extra` become fields of their own."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Render `record`; non-ASCII text stays readable."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def log_as_json(service: str, level: str) -> None:
    """Send every log record of the process to standard output as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("uvicorn.access", "uvicorn.error", "nats.aio.client", "alembic.runtime.migration"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

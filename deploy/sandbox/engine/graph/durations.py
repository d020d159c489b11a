"""Durations of nodes and tasks, bounded so that any time of a run plus twice such a duration is a time."""

from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration

# More than any run lasts. The compiler does not check durations, and Python's times end with the year 9999.
_MOST: Final = timedelta(days=365_250)
_MOST_SECONDS: Final = int(_MOST.total_seconds())


def bounded(duration: Duration) -> timedelta:
    """Return a duration, at most 1,000 years; a negative one as none."""
    seconds = max(0, min(duration.seconds, _MOST_SECONDS))
    nanos = duration.nanos if duration.seconds >= 0 else 0
    return max(timedelta(0), timedelta(seconds=seconds, microseconds=nanos // 1_000))

"""Settings of the events service."""

from pydantic import Field

from services.kit.process.settings import ObjectStoreSettings


class Settings(ObjectStoreSettings):
    """The settings that only the events service has."""

    verdict_wait_seconds: float = Field(default=5.0, ge=3, le=14)
    """Seconds that a caller whose event is stored in the stream waits for its verdict; then it receives OK. Below the
    15 s after which engines give up a call, and longer than executions takes to notice that batches wait in the stream
    (docs/decisions/0027-direct-batches.md)."""

    append_wait_seconds: float = Field(default=5.0, gt=0, le=14)
    """Seconds to keep trying to store an event in the stream; then its caller receives UNAVAILABLE. Long enough for a
    restart of NATS."""

    lane_length: int = Field(default=4000, ge=1)
    """Events that may wait in one lane; one more is RESOURCE_EXHAUSTED at once, which engines retry."""

    execution_events: int = Field(default=200, ge=1)
    """Events of one execution that may wait in its lane; one more is RESOURCE_EXHAUSTED at once. An engine sends the
    events of an execution one after the other, so only a flood reaches this limit; the lane stays free for others."""

    batch_events: int = Field(default=256, ge=1)
    """Maximum events in one batch. A batch is one transaction of the executions service, some 20 ms."""

    batch_bytes: int = Field(default=512 * 1024, ge=1024)
    """Maximum bytes of one batch; below the 1 MiB that NATS accepts by default."""

    large_event_bytes: int = Field(default=256 * 1024, ge=1024)
    """A larger event goes through the object store; its batch carries the URI. At most `batch_bytes`."""

    max_output_bytes: int = Field(default=2 * 1024 * 1024, ge=0)
    """Maximum bytes of inline outputs in an event; more is RESOURCE_EXHAUSTED (remoteData.maxSizeInBytes)."""

    event_log_days: int = Field(default=7, ge=0)
    """Days for which the event log, refused events and the objects of large events are stored; 0 means without end.
    A week outlives a weekend's incident. An event takes about its own size on disk (700 bytes): 500 events/s all day
    long are some 35 GB a day."""

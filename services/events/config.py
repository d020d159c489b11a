"""Settings of the events service."""

from pydantic import Field

from services.kit.process.settings import ObjectStoreSettings


class Settings(ObjectStoreSettings):
    """What the events service needs beyond what every service needs."""

    verdict_wait_seconds: float = Field(default=5.0, gt=0, le=14)
    """How long a caller whose event is on file waits for its verdict before it is told OK. Below the 15 s after which
    engines give a call up."""

    append_wait_seconds: float = Field(default=5.0, gt=0, le=14)
    """How long an event is tried to be put on file before its caller is told UNAVAILABLE. A restart of NATS fits in."""

    lane_length: int = Field(default=4000, ge=1)
    """Events that may wait in one lane; one more is RESOURCE_EXHAUSTED at once, which engines retry."""

    execution_events: int = Field(default=200, ge=1)
    """Of these, events of one execution; one more is RESOURCE_EXHAUSTED at once. An engine sends the events of an
    execution one after the other, so only a flood meets this, and leaves the lane to the others."""

    batch_events: int = Field(default=256, ge=1)
    """Events in one batch at most: one transaction of the executions service, some 20 ms."""

    batch_bytes: int = Field(default=512 * 1024, ge=1024)
    """Bytes of one batch at most; below the 1 MiB that NATS takes unless configured."""

    large_event_bytes: int = Field(default=256 * 1024, ge=1024)
    """A larger event goes through the object store; its batch carries the reference. At most `batch_bytes`."""

    max_output_bytes: int = Field(default=2 * 1024 * 1024, ge=0)
    """Inline outputs of an event; larger ones are RESOURCE_EXHAUSTED (remoteData.maxSizeInBytes)."""

    event_log_days: int = Field(default=7, ge=0)
    """Days for which the event log, refused events and the objects of large events are kept; 0 keeps them for ever.
    A week outlives a weekend's incident. An event takes about its own size on disk (700 bytes): at 500 events/s all
    day long that is some 35 GB a day."""

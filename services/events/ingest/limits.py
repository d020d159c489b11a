"""Limits of the path of events."""

from dataclasses import dataclass
from typing import Self

from services.contracts.event_batches import BatchedEvent
from services.events.config import Settings


@dataclass(frozen=True)
class Limits:
    """Limits of waiting in seconds, of lanes in events, of batches in events and bytes (see the settings)."""

    verdict_wait: float
    append_wait: float
    lane_length: int
    execution_events: int
    batch_events: int
    batch_bytes: int
    large_event_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits in `settings`."""
        return cls(
            verdict_wait=settings.verdict_wait_seconds,
            append_wait=settings.append_wait_seconds,
            lane_length=settings.lane_length,
            execution_events=settings.execution_events,
            batch_events=settings.batch_events,
            batch_bytes=settings.batch_bytes,
            large_event_bytes=settings.large_event_bytes,
        )

    def is_large(self, event: BatchedEvent) -> bool:
        """Return whether an event goes into the object store, and only its URI into a batch."""
        return len(event.body) > self.large_event_bytes

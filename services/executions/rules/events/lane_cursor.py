"""The lane cursor: up to where the batches of a lane are applied, and what may be applied next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from services.contracts.event_batches import sender_and_number

# Each is a process of the events service. A sender that has been forgotten sends its next batch through the stream.
_MOST_SENDERS = 32
_STEP = timedelta(microseconds=1)
_BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class LaneCursor:
    """The position up to which a lane is applied.

    Attributes:
        verdict_frame: The framed verdicts of the last batch; empty for a new lane.
        sequence: The stream sequence of the last batch that came through the stream.
        stored_at: When the stream stored that batch, and a microsecond more for each direct batch since: a replica of
            the release before, which compares it, notices that the cursor has moved. None for a new lane.
        senders: The number of the last batch of each sender, the latest sender last.
    """

    verdict_frame: bytes
    sequence: int
    stored_at: datetime | None
    senders: Mapping[str, int] = field(default_factory=dict)

    def has_applied(self, batch_id: str) -> bool:
        """Return whether the batch, or a later one of its sender, was applied."""
        sender, number = sender_and_number(batch_id)
        return number <= self.senders.get(sender, -1)

    def is_past(self, sequence: int, stored_at: datetime) -> bool:
        """Return whether the batch with this sequence and time in the stream was applied before the last one.

        Both must be in the past: a new stream counts from one again, and clocks are set back.
        """
        return self.stored_at is not None and sequence < self.sequence and stored_at <= self.stored_at

    def reaches(self, batch_id: str, after: int) -> bool:
        """Return whether the batch number `after` of the sender of this batch was applied."""
        sender, _ = sender_and_number(batch_id)
        return self.senders.get(sender, 0) >= after

    def after_direct_batch(self, batch_id: str, verdict_frame: bytes) -> "LaneCursor":
        """Return the cursor after a direct batch."""
        stored_at = (self.stored_at or _BEFORE_ALL) + _STEP
        return LaneCursor(verdict_frame, self.sequence, stored_at, self._senders_with(batch_id))

    def after_stored_batch(
        self, batch_id: str, verdict_frame: bytes, sequence: int, stored_at: datetime
    ) -> "LaneCursor":
        """Return the cursor after a batch of the stream."""
        return LaneCursor(verdict_frame, sequence, stored_at, self._senders_with(batch_id))

    def _senders_with(self, batch_id: str) -> dict[str, int]:
        sender, number = sender_and_number(batch_id)
        senders = {**self.senders}
        senders.pop(sender, None)
        senders[sender] = number
        while len(senders) > _MOST_SENDERS:
            del senders[next(iter(senders))]
        return senders

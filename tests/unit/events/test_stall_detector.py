"""Who stood still takes nothing for a moment."""

from dataclasses import dataclass

import pytest

from services.events.ingest.stall_detector import DOUBT_SECONDS, STOOD_STILL_SECONDS, StallDetector
from services.kit.errors import Unavailable


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def trusts(stall_detector: StallDetector) -> bool:
    try:
        stall_detector.check()
    except Unavailable:
        return False
    return True


@pytest.mark.parametrize("beat_first", [True, False], ids=["its own timer is first", "a call is first"])
def test_after_standing_still_nothing_is_taken_for_a_moment(beat_first: bool) -> None:
    clock = Clock()
    stall_detector = StallDetector(clock)
    assert trusts(stall_detector)
    clock.now += STOOD_STILL_SECONDS + 0.1
    if beat_first:
        stall_detector.beat()
    assert not trusts(stall_detector)
    clock.now += DOUBT_SECONDS - 0.1
    stall_detector.beat()
    assert not trusts(stall_detector)
    clock.now += 0.2
    assert trusts(stall_detector)


def test_a_busy_process_goes_on_taking_events() -> None:
    clock = Clock()
    stall_detector = StallDetector(clock)
    for _ in range(10):
        clock.now += STOOD_STILL_SECONDS - 0.1
        assert trusts(stall_detector)
        stall_detector.beat()
        assert trusts(stall_detector)

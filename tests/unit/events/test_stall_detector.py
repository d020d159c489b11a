"""Refusal of events after a stall of the process."""

from dataclasses import dataclass

import pytest

from services.events.ingest.stall_detector import REFUSAL_SECONDS, STALL_SECONDS, StallDetector
from services.kit.errors import Unavailable


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def accepts(stall_detector: StallDetector) -> bool:
    try:
        stall_detector.check()
    except Unavailable:
        return False
    return True


@pytest.mark.parametrize("beat_first", [True, False], ids=["its own timer is first", "a call is first"])
def test_events_are_refused_for_a_moment_after_a_stall(beat_first: bool) -> None:
    clock = Clock()
    stall_detector = StallDetector(clock)
    assert accepts(stall_detector)
    clock.now += STALL_SECONDS + 0.1
    if beat_first:
        stall_detector.beat()
    assert not accepts(stall_detector)
    clock.now += REFUSAL_SECONDS - 0.1
    stall_detector.beat()
    assert not accepts(stall_detector)
    clock.now += 0.2
    assert accepts(stall_detector)


def test_events_are_accepted_while_the_process_is_busy() -> None:
    clock = Clock()
    stall_detector = StallDetector(clock)
    for _ in range(10):
        clock.now += STALL_SECONDS - 0.1
        assert accepts(stall_detector)
        stall_detector.beat()
        assert accepts(stall_detector)

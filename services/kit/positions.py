"""Where pages deep in a list of rows that stay begin, so that nobody has to count from its start.

A token is an offset, and PostgreSQL comes to an offset by walking there: 10 ms for 100,000 entries of an index, some
ten times what a page costs. But such rows stay what they are, and new ones come on top: counted from a moment that has
settled, which is one before which no row can appear any more, a row's place in a list newest first is its own for
ever. So a replica remembers the places of some it has answered, and finds a page by counting what is newer than that
moment and going on from the nearest place. Replicas need not agree: each answers what walking would have found.
"""

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

# A row carries the time at which its making began. That takes seconds at most (services/kit/db.py has the time-outs);
# the rest is for replicas whose clocks differ.
_SETTLED = timedelta(seconds=60)
# What somebody writes into the tables by hand, with a time long ago, is found again after this.
_KEPT = timedelta(minutes=10)
# Newer rows are counted at every call. After this many the moment is moved.
MOST_NEWER = 1000
# Between two places there are at least as many rows as are walked through in a tenth of a millisecond.
_APART = 1000
# Of lists, each for one set of filters; a list's places are a hundred bytes for every thousand rows.
_LISTS_KEPT = 200


class Place(NamedTuple):
    """An entry, and how many stand before it without those newer than the list's moment."""

    rank: int
    moment: datetime
    key: Any
    """By what the list goes on from it: the id of a row, a name."""


@dataclass
class Known:
    """The places of one list that are known, counted from the moment `since`."""

    since: datetime
    until: datetime
    places: list[Place] = field(default_factory=list)

    def nearest(self, rank: int) -> Place | None:
        """The last place known that does not lie beyond `rank`; None when there is none."""
        after = bisect_right(self.places, rank, key=_rank)
        return self.places[after - 1] if after else None

    def add(self, place: Place) -> None:
        """Remember `place`, unless one close to it is known or its rank may still change."""
        if place.moment <= self.since and self.lacks(place.rank):
            insort(self.places, place, key=_rank)

    def lacks(self, rank: int) -> bool:
        """Whether no place close to `rank` is known."""
        before = self.nearest(rank + _APART - 1)
        return before is None or rank - before.rank >= _APART

    def moved(self, since: datetime, newer: int) -> "Known":
        """The same counted from a later moment, by which there were `newer` more."""
        places = [place._replace(rank=place.rank + newer) for place in self.places]
        return Known(since, self.until, places)


class Positions:
    """What a process knows of the lists it has answered."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lists: OrderedDict[Hashable, Known] = OrderedDict()

    def known(self, of: Hashable) -> Known:
        """What is known of the list `of`: its filters, their values, and the rows it is about."""
        now = self._clock()
        found = self._lists.get(of)
        if found is None or found.until < now:
            found = Known(now - _SETTLED, now + _KEPT)
            self.keep(of, found)
        self._lists.move_to_end(of)
        return found

    def settled(self) -> datetime:
        """The latest moment before which no row can appear any more."""
        return self._clock() - _SETTLED

    def keep(self, of: Hashable, known: Known) -> None:
        """Know this of the list `of` from now on."""
        self._lists[of] = known
        if len(self._lists) > _LISTS_KEPT:
            self._lists.popitem(last=False)


def _rank(place: Place) -> int:
    return place.rank

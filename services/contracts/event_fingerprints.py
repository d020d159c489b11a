"""Whose the events of a batch are, told beside the batch: for the log, which looks into no event when it writes.

A batch carries the marks in a header. A reader that does not know the header loses nothing, so releases can be mixed;
a batch of a sender that did not know it has none.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from hashlib import blake2b

HEADER = "Flyte-Marks"
"""NATS header of a batch: what `encode_fingerprints` wrote."""

_BYTES = 8


def fingerprint_of(project: str, domain: str, name: str) -> bytes:
    """Return 8 bytes that are the same for an execution everywhere and nearly always differ from another's."""
    text = f"{project}:{domain}:{name}".encode(errors="surrogatepass")
    return blake2b(text, digest_size=_BYTES).digest()


def encode_fingerprints(marks: Iterable[bytes]) -> str:
    """Write the marks of a batch's events, one an event and in their order."""
    return b64encode(b"".join(marks)).decode()


def decode_fingerprints(header: str) -> bytes:
    """Read what `encode_fingerprints` wrote: the marks, one behind the other."""
    return b64decode(header)


def positions_of(mark: bytes, marks: bytes) -> Iterator[int]:
    """Positions of the events in a batch with `marks` that carry `mark`."""
    for position in range(len(marks) // _BYTES):
        if marks[position * _BYTES : (position + 1) * _BYTES] == mark:
            yield position

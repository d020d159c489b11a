"""Fingerprints of the executions that the events of a batch belong to, for the event log.

The log does not parse events when it writes them; it is searched by fingerprints. A batch carries them in a header,
which executions stores with the batch: a reader that does not know the header loses nothing, so releases can be mixed.
A batch of a sender that does not know it has none.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from hashlib import blake2b

# The wire name of earlier releases; a rename would lose fingerprints while releases are mixed.
HEADER = "Flyte-Marks"
"""NATS header of a batch: the result of `encode_fingerprints`."""

_BYTES = 8


def fingerprint_of(project: str, domain: str, name: str) -> bytes:
    """Return 8 bytes that are the same for an execution everywhere and nearly always differ from another's."""
    text = f"{project}:{domain}:{name}".encode(errors="surrogatepass")
    return blake2b(text, digest_size=_BYTES).digest()


def encode_fingerprints(fingerprints: Iterable[bytes]) -> str:
    """Return the header of a batch with these fingerprints, one for each event and in their order."""
    return b64encode(b"".join(fingerprints)).decode()


def decode_fingerprints(header: str | None) -> bytes | None:
    """Return the fingerprints in a header, concatenated; None when it is missing or cannot be read."""
    try:
        return None if header is None else b64decode(header, validate=True)
    except ValueError:
        return None


def positions_of(fingerprint: bytes, fingerprints: bytes) -> Iterator[int]:
    """Yield the positions of `fingerprint` among concatenated `fingerprints`."""
    for position in range(len(fingerprints) // _BYTES):
        if fingerprints[position * _BYTES : (position + 1) * _BYTES] == fingerprint:
            yield position

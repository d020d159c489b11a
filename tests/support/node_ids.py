"""Unique ids of nested nodes, as in flytepropeller (engine.md#node-ids)."""

_MAX_LENGTH = 20
_ALPHABET = "abcdefghijklmnopqrstuvwxyz123456"
_FNV_OFFSET = 0x811C9DC5
_FNV_PRIME = 0x01000193
_UINT32 = 0xFFFFFFFF


def nested_id(parent: str, attempt: int, spec_id: str) -> str:
    """Return the id of the node `spec_id` below `parent`; a long one is hashed to eight characters."""
    text = f"{parent}-{attempt}-{spec_id}"
    return text if len(text) <= _MAX_LENGTH else "f" + _base32(_fnv1a(text.encode()).to_bytes(4))


def _fnv1a(data: bytes) -> int:
    value = _FNV_OFFSET
    for byte in data:
        value = (value ^ byte) * _FNV_PRIME & _UINT32
    return value


def _base32(data: bytes) -> str:
    bits = "".join(f"{byte:08b}" for byte in data)
    padded = bits + "0" * (-len(bits) % 5)
    return "".join(_ALPHABET[int(padded[start : start + 5], 2)] for start in range(0, len(padded), 5))

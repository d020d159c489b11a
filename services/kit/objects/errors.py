"""Errors of reading an object, from every kind of store."""

from services.kit.errors import ResourceExhausted, Unavailable


class UnreadableObject(Unavailable):
    """The store refuses this object; as permissions can change, it is unavailable and not missing."""


class LargeObject(ResourceExhausted):
    """The object is larger than its reader allows."""


def check_object_size(name: str, size: int, most_bytes: int | None) -> None:
    """Raise LargeObject when the object `name` has more than `most_bytes`; None is no limit."""
    if most_bytes is not None and size > most_bytes:
        raise LargeObject(f"the object {name} is too large: it has {size} bytes, of {most_bytes} at most")

"""The size limit of a stored entity: a list with a larger one could not be received by any client."""

from services.kit.errors import InvalidArgument

# gRPC clients receive 4 MiB by default, and a response has some bytes in addition to the entity.
MOST_ENTITY_BYTES = 3840 * 1024


def check_entity_size(what: str, size: int) -> None:
    """Raise InvalidArgument when `size` bytes are more than clients receive; `what` names the entity."""
    if size > MOST_ENTITY_BYTES:
        raise InvalidArgument(f"size of {what} exceeded {MOST_ENTITY_BYTES} bytes as it is shown: it has {size}")

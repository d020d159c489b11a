"""How large one thing may be that answers show: what is larger could be stored, and no list with it received again."""

from services.kit.errors import InvalidArgument

# gRPC clients receive 4 MiB unless they are told otherwise, and an answer has a little beside what it shows.
MOST_BYTES = 3840 * 1024


def check_receivable(what: str, size: int) -> None:
    """Raise InvalidArgument where `size` bytes are more than clients receive; `what` names what has them."""
    if size > MOST_BYTES:
        raise InvalidArgument(f"size of {what} exceeded {MOST_BYTES} bytes as it is shown: it has {size}")

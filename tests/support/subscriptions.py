"""Subscriptions of tests, whose messages come over other connections."""

from services.kit.messaging.bus import Bus


async def until_subscribed(bus: Bus) -> None:
    """Return when the server has the subscriptions of `bus`: messages that are published from then on arrive."""
    # The client writes the PING of a flush at once, and the subscription before it a little later. The second PING
    # comes after it.
    for _ in range(2):
        await bus._client.flush()

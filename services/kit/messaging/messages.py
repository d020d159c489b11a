"""Messages between services: service requests, which have a reply, and announcements of committed changes.

Services declare theirs in `services.contracts`; `bus` carries them. Payloads are protobuf messages, so that the two
sides can be of different releases.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)
Said = TypeVar("Said", bound=Message)

# A service replies from memory or by one indexed read. Two seconds are enough for the first connections after a
# restart, and far below the 15 s after which Go clients cancel a call.
REQUEST_DEADLINE_SECONDS = 2.0


@dataclass(frozen=True)
class ServiceRequest(Generic[Request, Reply]):
    """A request on `subject` that one replica of the owner serves; the owner's failure is raised at the caller."""

    subject: str
    request: type[Request]
    reply: type[Reply]
    deadline: float = REQUEST_DEADLINE_SECONDS


@dataclass(frozen=True)
class Announcement(Generic[Said]):
    """A message published on `subject` (`flyte.<owner>.<noun>.<past participle>`) after its change is committed."""

    subject: str
    message: type[Said]

    @property
    def owner(self) -> str:
        """The service whose stream stores the announcement."""
        return self.subject.split(".")[1]

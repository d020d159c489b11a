"""What services say to one another: a question awaits an answer, a fact reports what has become true.

A service declares its own in `services.contracts`; `bus` carries them. Both speak protobuf messages, so the two ends
can be of different releases.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)
Said = TypeVar("Said", bound=Message)

# An owner answers from memory or one indexed read. Two seconds leave room for a restart's first connections and stay
# far below the 15 s after which Go clients give a call up.
QUESTION_DEADLINE_SECONDS = 2.0


@dataclass(frozen=True)
class ServiceRequest(Generic[Request, Reply]):
    """Asked on `subject`, answered by whichever replica of the owner is free; the owner's failure is raised again."""

    subject: str
    request: type[Request]
    reply: type[Reply]
    deadline: float = QUESTION_DEADLINE_SECONDS


@dataclass(frozen=True)
class Announcement(Generic[Said]):
    """Published on `subject` (`flyte.<owner>.<noun>.<past participle>`) after the change it reports was committed."""

    subject: str
    message: type[Said]

    @property
    def owner(self) -> str:
        """The service whose stream keeps the fact."""
        return self.subject.split(".")[1]

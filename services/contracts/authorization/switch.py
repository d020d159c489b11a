"""Authorisation as a service has it: off, or by the policy file of its settings."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from services.contracts.authorization.authorizer import Authorizer, FindScopes
from services.contracts.authorization.policy import parse_policy
from services.kit.process.settings import ProcessSettings
from services.kit.process.watched_file import WatchedFile
from services.kit.rpc.table import Authorize


@dataclass(frozen=True)
class Authorization:
    """What a service needs of it."""

    authorizer: Authorizer | None = None
    """None: every caller may do everything."""
    loops: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    """The loop that reads the policy again when its file changes."""

    @property
    def hook(self) -> Authorize | None:
        """What the method table calls for each request."""
        return None if self.authorizer is None else self.authorizer.authorize

    @classmethod
    def of(cls, settings: ProcessSettings, scopes: Mapping[str, FindScopes] = MappingProxyType({})) -> Self:
        """Return what the setting `authorization_policy` says.

        Args:
            settings: Those of the service.
            scopes: By path of a method, how the service finds the scopes of requests that only it can read.

        Raises:
            InvalidArgument: The policy cannot be used.
            ValueError: The table of methods does not fit flyteidl, whether there is a policy or not.
        """
        authorizer = Authorizer(scopes)
        if settings.authorization_policy is None:
            return cls()
        file = WatchedFile(settings.authorization_policy, lambda text: authorizer.use(parse_policy(text)))
        file.read_first()
        return cls(authorizer, (file.run,))

"""The provider's signing keys, and how they rotate."""

from dataclasses import dataclass, field
from typing import Any

from joserfc.jwk import RSAKey

ALGORITHM = "RS256"
_KEY_BITS = 2048


def new_key(key_id: str) -> RSAKey:
    """Generate a signing key with this key id."""
    return RSAKey.generate_key(_KEY_BITS, parameters={"kid": key_id, "use": "sig", "alg": ALGORITHM})


@dataclass
class SigningKeys:
    """The key that signs, and those that are published."""

    signing: RSAKey = field(default_factory=lambda: new_key("key-1"))
    published: list[RSAKey] = field(default_factory=list)
    _generated: int = 1

    def __post_init__(self) -> None:
        self.published = [self.signing]

    def rotate(self, *, keep_old: bool = True) -> None:
        """Publish a new key and sign with it at once, as providers do in an emergency.

        Args:
            keep_old: whether the previous keys stay published, so that the tokens they signed stay valid.
        """
        self._generated += 1
        self.signing = new_key(f"key-{self._generated}")
        self.published = [*(self.published if keep_old else ()), self.signing]

    def drop_old(self) -> None:
        """Publish the signing key alone."""
        self.published = [self.signing]

    def as_json(self) -> dict[str, Any]:
        """Return the published keys as a JSON Web Key Set."""
        return {"keys": [key.as_dict(private=False) for key in self.published]}

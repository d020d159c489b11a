"""Secrets of the sandbox for tasks, as files and as variables, where flytekit's `current_context().secrets` finds them.

A secret is a file `<sandbox>/secrets/<group>/<key>`, with a version `<sandbox>/secrets/<group>/<version>/<key>`, in
lower case; or a variable of the environment of `make up`, `_FSEC_<GROUP>_<KEY>`, in upper case.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flyteidl.core.security_pb2 import Secret

from deploy.sandbox.engine.tasks.plain_files import is_file_name

ENV_PREFIX = "_FSEC_"
_FOLDER_VARIABLE = "FLYTE_SECRETS_DEFAULT_DIR"
_PREFIX_VARIABLE = "FLYTE_SECRETS_ENV_PREFIX"


class SecretMissing(Exception):
    """The sandbox does not have a secret that a task requests."""


@dataclass(frozen=True)
class SecretStore:
    """The secrets of a sandbox: the files below `folder`, and the variables of `environment`."""

    folder: Path
    environment: Mapping[str, str]

    def provide(self, secrets: Iterable[Secret], into: Path) -> dict[str, str]:
        """Write the secrets that a task mounts as files below `into`; return the variables for its environment.

        Raises:
            SecretMissing: One of them is not there.
        """
        variables: dict[str, str] = {}
        for secret in secrets:
            value = self._value(secret)
            names = _names(secret)
            if secret.mount_requirement != Secret.FILE:
                variables[f"{ENV_PREFIX}{'_'.join(names).upper()}"] = value.decode(errors="surrogateescape").strip()
                if secret.env_var:
                    variables[secret.env_var] = value.decode(errors="surrogateescape").strip()
            if secret.mount_requirement != Secret.ENV_VAR:
                file = into.joinpath(*(name.lower() for name in names))
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(value)
                file.chmod(0o600)
        if variables or into.exists():
            variables |= {_FOLDER_VARIABLE: str(into), _PREFIX_VARIABLE: ENV_PREFIX}
        return variables

    def _value(self, secret: Secret) -> bytes:
        names = _names(secret)
        file = self.folder.joinpath(*(name.lower() for name in names))
        variable = f"{ENV_PREFIX}{'_'.join(names).upper()}"
        if all(map(is_file_name, names)) and file.is_file():
            return file.read_bytes()
        if variable in self.environment:
            return self.environment[variable].encode(errors="surrogateescape")
        raise SecretMissing(
            f"the secret {'/'.join(names)} is not in this sandbox: write it to {file}, or set {variable} for make up"
        )


def _names(secret: Secret) -> list[str]:
    return [name for name in (secret.group, secret.group_version, secret.key) if name]

"""Settings of a process: from the environment, then a YAML file, then defaults.

An unknown or wrong setting stops the start. Each service extends `ProcessSettings` with its own fields in its
`config.py`, each documented below the field.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, FilePath, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError
from yaml import YAMLError

from services.kit.errors import InvalidArgument
from services.kit.messaging.nats_server import NatsServer, TlsFiles
from services.kit.objects.buckets import AZURE, S3, BucketAccess, ObjectUri
from services.kit.rpc.callers import CLIENT_CLAIMS, SUBJECT_CLAIMS

PREFIX = "FLYTEPLANE_"
CONFIG_FILE = PREFIX + "CONFIG"
UNIX = "unix:"
"""The prefix of an address that is a socket in the file system."""
# flyteadmin's limit, which is gRPC's default (gateway.md#limits).
DEFAULT_MAX_MESSAGE_BYTES = 4 * 1024 * 1024
# A single client connection may use about half of it: eight of the largest requests.
DEFAULT_INCOMPLETE_BYTES = 64 * 1024 * 1024
# Longer than a working client pauses within a request.
DEFAULT_REQUEST_IDLE_SECONDS = 20.0


ClaimNames = Annotated[tuple[Annotated[str, StringConstraints(min_length=1)], ...], NoDecode, Field(min_length=1)]
"""Names of claims; in the environment commas separate them."""


class ProcessSettings(BaseSettings):
    """Settings of every service."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", use_attribute_docstrings=True, env_nested_delimiter="__"
    )

    database_url: str = "postgresql://localhost/flyteplane"
    """This service's own database, as its own role."""

    database_pool_size: int = Field(default=10, ge=1, le=200)
    """Largest number of connections to the database, per process. Lists use half of them together."""

    nats_url: str = "nats://127.0.0.1:4222"
    """NATS with JetStream, as nats://user:password@host:port; tls:// for TLS; several servers with commas."""

    nats_ca_file: FilePath | None = None
    """PEM certificates of the authorities that NATS's certificate is checked against; none: the system's."""

    nats_certificate_file: FilePath | None = None
    """PEM client certificate, with its chain, for a NATS server that requires one."""

    nats_key_file: FilePath | None = None
    """PEM private key of that certificate."""

    grpc_address: str = "127.0.0.1:8081"
    """host:port of the grpcio server: for direct callers, and for the gateway's reflection and watched health."""

    http2_address: str = "127.0.0.1:8083"
    """host:port of the HTTP/2 server for the gateway's gRPC calls (docs/decisions/0011-http2-server.md), or unix:PATH
    of a socket where the gateway runs on the same machine."""

    http_address: str = "127.0.0.1:8082"
    """host:port of /healthz, /readyz and /metrics."""

    gateway_secret: str = Field(default="", repr=False, pattern=r"^([!-~]{16,256})?$")
    """Secret of the gateway and all services, 16 to 256 visible ASCII characters. With it the service serves calls of
    the gateway alone, and believes it who calls; needed where callers log in. Empty: the service serves everyone who
    reaches it, and knows no caller (docs/operating/authentication.md#2-make-a-secret)."""

    subject_claims: ClaimNames = SUBJECT_CLAIMS
    """Claims of a token that name the subject, which is the principal of executions; the first that a token has counts.
    A token with none of them stands for its client. Name only claims that people cannot choose for themselves."""

    client_claims: ClaimNames = CLIENT_CLAIMS
    """Claims of a token that name the OAuth client it was issued to; the first that a token has counts."""

    max_message_bytes: int = Field(default=DEFAULT_MAX_MESSAGE_BYTES, ge=1024)
    """Largest request; a larger one is RESOURCE_EXHAUSTED 'message larger than max'."""

    max_incomplete_bytes: int = Field(default=DEFAULT_INCOMPLETE_BYTES, ge=1024)
    """Limit for the bodies of all requests that arrive in pieces, until their response is sent. A client connection may
    use as much as it leaves free for others; a request above that is RESOURCE_EXHAUSTED at once."""

    request_idle_seconds: float = Field(default=DEFAULT_REQUEST_IDLE_SECONDS, gt=0, le=3600)
    """A request of which nothing arrives for this long is DEADLINE_EXCEEDED, and a connection whose next request is
    incomplete for this long is closed; some are after half of it, as progress is checked twice within it. As a whole a
    request may take six times as long, an upload or download longer by a second for each 16 KiB."""

    authorization_policy: FilePath | None = None
    """YAML file that binds roles to callers (docs/authorization.md#policy); it is read again when it changes. None:
    every caller may do everything. All services must have the same."""

    audit_log: bool = False
    """Whether the service records every call that changes something, and every denied one, in its database
    (docs/operating/audit.md#what-is-recorded)."""

    audit_log_days: int = Field(default=90, ge=0)
    """Days for which those records are stored; 0 means without end."""

    log_level: str = Field(default="info", pattern="^(?i:debug|info|warning|error)$")
    """debug, info (a line per call), warning or error."""

    drain_seconds: float = Field(default=8.0, ge=0, le=300)
    """How long calls under way may take to finish after SIGTERM; less than the 10 s in which the process must end."""

    @field_validator("http2_address")
    @classmethod
    def _socket_or_host_and_port(cls, value: str) -> str:
        return value if value.startswith(UNIX) else cls._host_and_port(value)

    @field_validator("grpc_address", "http_address")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError("must be host:port")
        return value

    @field_validator("subject_claims", "client_claims", mode="before")
    @classmethod
    def _claim_names(cls, value: Any) -> Any:
        return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str) -> str:
        error = ValueError("must be postgresql://user:password@host/database")
        try:
            port = conninfo_to_dict(value).get("port", "")
        except psycopg.ProgrammingError:
            raise error from None  # psycopg's text contains the password
        if not all(number.isdigit() or not number for number in str(port).split(",")):
            raise error  # psycopg parses a password with a slash as a port, and its own error contains that
        return value

    @field_validator("nats_url")
    @classmethod
    def _nats(cls, value: str) -> str:
        NatsServer.parse(value)
        return value

    @model_validator(mode="after")
    def _tls_where_there_are_files(self) -> Self:
        files = (self.nats_ca_file, self.nats_certificate_file, self.nats_key_file)
        if any(files) and not NatsServer.parse(self.nats_url).tls:
            raise ValueError("nats_ca_file, nats_certificate_file and nats_key_file need a nats_url of tls://")
        if (self.nats_certificate_file is None) != (self.nats_key_file is None):
            raise ValueError("nats_certificate_file and nats_key_file are needed together")
        return self

    @model_validator(mode="after")
    def _policy_for_known_callers(self) -> Self:
        if self.authorization_policy is not None and not self.gateway_secret:
            raise ValueError("authorization_policy needs gateway_secret: without it no caller is known")
        return self

    @property
    def nats_tls(self) -> TlsFiles:
        """The files for TLS connections to NATS."""
        return TlsFiles(self.nats_ca_file, self.nats_certificate_file, self.nats_key_file)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the library passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in order of precedence; `.env` files and secrets folders are not read."""
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        if file := os.environ.get(CONFIG_FILE):
            sources.append(YamlConfigSettingsSource(settings_cls, yaml_file=Path(file)))
        return tuple(sources)


class ObjectStoreSettings(ProcessSettings):
    """Settings of a service that reads or writes the object store."""

    objects_url: str = "file:///tmp/flyteplane-objects"
    """The object store for inputs, outputs, compiled workflows, uploads and large events: file:///folder, s3://bucket,
    gs://bucket or abfs://container (Azure), each with a folder or none. All services must have the same. Credentials
    come from the provider's own environment variables, such as AWS_ACCESS_KEY_ID
    (docs/object-stores.md#object-stores)."""

    objects_buckets: Annotated[tuple[str, ...], NoDecode] = ()
    """Other buckets or containers of the same provider whose objects may be read and given to clients, such as those
    that engines write to: s3://bucket, s3://team-*/prefix, or s3://bucket?region=eu-west-1 for one in another region.
    The bucket of objects_url always may, and in executions that of output_location_prefix."""

    objects_endpoint: str = ""
    """URL of the provider's API where it is not the provider's own: of an S3-compatible server, a private endpoint or
    an emulator."""

    objects_region: str = ""
    """Region of the buckets of an s3:// store; empty for AWS_REGION of the environment, else us-east-1."""

    objects_path_style: bool = True
    """Whether requests to an s3:// store have the bucket in their path; otherwise it is part of the host, as some
    servers require, and clients must be able to resolve that name."""

    objects_azure_account: str = ""
    """Storage account of the container of an abfs:// store; empty for AZURE_STORAGE_ACCOUNT_NAME of the environment."""

    objects_ca_file: FilePath | None = None
    """PEM certificates of the authorities that the provider's certificate may be issued by, in addition to the
    system's."""

    @field_validator("objects_url")
    @classmethod
    def _store_url(cls, value: str) -> str:
        if not value.startswith("file:"):
            try:
                ObjectUri.parse(value)
            except InvalidArgument:
                raise ValueError("must be file:///folder, or s3://, gs:// or abfs:// and a bucket") from None
        return value

    @field_validator("objects_buckets", mode="before")
    @classmethod
    def _split_buckets(cls, value: Any) -> Any:
        return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value

    @field_validator("objects_buckets")
    @classmethod
    def _buckets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        BucketAccess().with_buckets(value)
        return value

    @field_validator("objects_endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must be a URL of http or https")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _fitting_store(self) -> Self:
        if self.objects_url.startswith("file:"):
            return self._check_file_store()
        provider = ObjectUri.parse(self.objects_url).provider
        if provider != S3 and (self.objects_region or not self.objects_path_style):
            raise ValueError("objects_region and objects_path_style are for an s3:// store")
        if provider != AZURE and self.objects_azure_account:
            raise ValueError("objects_azure_account is for an abfs:// store")
        if provider == AZURE and not self._azure_account:
            raise ValueError("objects_azure_account is needed for an abfs:// store")
        if any(allowed.provider != provider for allowed in self.bucket_access.allowed):
            raise ValueError("objects_buckets must be of the provider of objects_url")
        return self

    def _check_file_store(self) -> Self:
        of_providers = (self.objects_buckets, self.objects_endpoint, self.objects_region, self.objects_azure_account)
        if any(of_providers) or self.objects_ca_file or not self.objects_path_style:
            raise ValueError("of the settings objects_*, a file:// store has objects_url only")
        return self

    @property
    def bucket_access(self) -> BucketAccess:
        """How buckets are reached, and which are read in addition to that of `objects_url`."""
        access = BucketAccess(
            endpoint=self.objects_endpoint,
            region=self.objects_region,
            path_style=self.objects_path_style,
            account=self._azure_account,
            ca_file=self.objects_ca_file,
        )
        return access.with_buckets(self.objects_buckets)

    @property
    def _azure_account(self) -> str:
        named = "" if self.objects_url.startswith("file:") else ObjectUri.parse(self.objects_url).account
        return named or self.objects_azure_account or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")


class PublicSettings(ProcessSettings):
    """Settings of a service that sends clients to the gateway."""

    public_url: str = Field(default="http://localhost:30080", pattern=r"^https?://[^/\s]+(/\S*)?$")
    """The gateway's address as clients see it; signed URLs of a file:// store start with it. A login of a browser ends
    at its path /callback, which the OpenID provider must know; if it is https, its cookies are never sent otherwise."""


AnySettings = TypeVar("AnySettings", bound=ProcessSettings)


def load(settings: type[AnySettings]) -> AnySettings:
    """Return the settings; exit with one line that names every wrong or unknown field."""
    known = {(PREFIX + name).upper() for name in settings.model_fields} | {CONFIG_FILE}
    unknown = sorted(
        name for name in os.environ if name.startswith(PREFIX) and name.split("__")[0].upper() not in known
    )
    if unknown:
        raise SystemExit(f"unknown settings: {', '.join(unknown)}")
    file = os.environ.get(CONFIG_FILE)
    if file and not Path(file).is_file():
        raise SystemExit(f"{CONFIG_FILE} names no file: {file}")
    try:
        return settings()
    except ValidationError as error:
        raise SystemExit("wrong settings: " + "; ".join(_described(problem) for problem in error.errors())) from None
    except (SettingsError, YAMLError, TypeError, ValueError) as error:  # pydantic-settings does not wrap any of these
        raise SystemExit(f"wrong settings: {' '.join(str(error).split())}") from None


def _described(problem: Any) -> str:
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"

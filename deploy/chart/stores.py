"""Values of PostgreSQL, NATS and the object store, and of the small ones for trials."""

from typing import Literal

from pydantic import Field

from deploy.chart.base import Image, KubernetesObject, Name, Port, SecretKey, Values


class Database(Values):
    """The PostgreSQL server (16 or newer) with the databases of the four services."""

    host: str = ""
    """Its host; empty with `trial.postgresql`."""

    port: Port = 5432
    """Its port."""

    ssl_mode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "verify-full"
    """TLS of connections, as libpq's sslmode. With verify-full the server's certificate must name the host."""

    ca_secret: SecretKey = SecretKey()
    """Key with the PEM certificates of the server's authority; needed for verify-ca and verify-full."""

    existing_secret: Name = ""
    """Secret with the passwords, by service: keys `registry`, `executions`, `events` and `projects`."""

    parameters: dict[str, str] = {}
    """Further parameters of connections, as libpq's, such as `target_session_attrs`."""


class Nats(Values):
    """NATS with JetStream, with a user for each service (`files/nats-permissions.json`)."""

    servers: list[str] = []
    """host:port of each server of one cluster; empty with `trial.nats`."""

    tls: bool = True
    """Whether connections are encrypted, and the server's certificate is checked."""

    ca_secret: SecretKey = SecretKey()
    """Key with the PEM certificates of the authority; empty: those of the image's system."""

    client_certificate_secret: Name = ""
    """Secret of type kubernetes.io/tls with the client certificate, for servers that require one."""

    existing_secret: Name = ""
    """Secret with the passwords of the four users, by service, in characters that a URL may have as they are: letters,
    digits and `-._~`."""


class ObjectStore(Values):
    """The object store for inputs, outputs, compiled workflows, uploads and large events."""

    url: str = Field(default="", pattern=r"^$|^(s3|gs|abfs|file)://.+$")
    """`s3://bucket/folder`, `gs://bucket/folder`, `abfs://container/folder` (Azure), or `file:///folder` with a
    `persistentVolumeClaim`; empty with `trial.objectStore`."""

    buckets: list[str] = []
    """Other buckets or containers of the same provider whose objects may be read and given to clients, such as those
    that engines write to."""

    endpoint: str = Field(default="", pattern=r"^$|^https?://.+$")
    """URL of the provider's API where it is not the provider's own; signed URLs begin with it, so clients must reach
    it."""

    region: str = ""
    """Region of the buckets of an `s3://` store; empty: AWS_REGION, else us-east-1."""

    path_style: bool = True
    """Whether requests to an `s3://` store have the bucket in their path, not in the host."""

    azure_account: str = ""
    """Storage account of an `abfs://` store."""

    ca_secret: SecretKey = SecretKey()
    """Key with the PEM certificates of the provider's authority, in addition to those of the image's system."""

    existing_secret: Name = ""
    """Secret whose keys are environment variables of the store's client, such as AWS_ACCESS_KEY_ID and
    AZURE_STORAGE_ACCOUNT_KEY; empty where the pods' service accounts have access."""

    env: dict[str, str] = {}
    """Environment variables of the store's client that are no secrets."""

    google_key_secret: SecretKey = SecretKey()
    """Key with the key file of a Google service account, for a `gs://` store without workload identity."""

    persistent_volume_claim: Name = ""
    """Claim of the volume of a `file://` store, which all pods of registry, executions and events write."""

    signing_key_secret: SecretKey = SecretKey()
    """Key with the secret that signs URLs of a `file://` store."""


class TrialPart(Values):
    """A part for trials: one pod, an ordinary volume, no backups."""

    enabled: bool = False
    """Whether the chart runs it."""

    image: Image
    """Its image."""

    storage: str = "2Gi"
    """Size of its volume."""

    storage_class: str = ""
    """Storage class of its volume; empty: the cluster's default."""

    resources: KubernetesObject = {}
    """Requests and limits of its container."""


class TrialObjectStore(Values):
    """A volume as object store, for trials on one node; no engine can read it."""

    enabled: bool = False
    """Whether the chart makes it."""

    storage: str = "2Gi"
    """Its size."""

    storage_class: str = ""
    """Its storage class; empty: the cluster's default."""

    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteOnce"
    """With ReadWriteOnce all pods run on one node."""


class Trial(Values):
    """Parts for trials. Their passwords are made by the chart, in the Secret `<release>-trial`."""

    postgresql: TrialPart = TrialPart(
        image=Image(repository="docker.io/library/postgres", tag="18.1"),
        resources={"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    )
    """PostgreSQL, with the four databases."""

    nats: TrialPart = TrialPart(
        image=Image(repository="docker.io/library/nats", tag="2.12-alpine"),
        resources={"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    )
    """NATS with JetStream, with the four users."""

    object_store: TrialObjectStore = TrialObjectStore()
    """The object store."""

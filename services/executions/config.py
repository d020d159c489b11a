"""Settings of the executions service."""

from typing import Literal, Self

from pydantic import Field, model_validator

from services.contracts.clusters import NamespaceSettings
from services.contracts.execution_config import check_env_names, check_service_account
from services.contracts.labels import check_annotations, check_labels
from services.contracts.workflow_settings import ResourceAmounts, WorkflowSettings
from services.kit.errors import InvalidArgument
from services.kit.objects.buckets import BucketAccess
from services.kit.process.settings import PublicSettings

_MEBIBYTE = 1024 * 1024
# Amazon S3 and Google Cloud Storage sign for seven days at most.
_LONGEST_SIGNATURE_SECONDS = 7 * 24 * 3600.0


class Settings(WorkflowSettings, NamespaceSettings, PublicSettings):
    """Settings of the executions service, in addition to those that all services have."""

    signing_key: str = Field(default="", repr=False)
    """Secret that signs the URLs of a file:// store; the same for all replicas. A file:// store needs one."""

    max_parallelism: int = Field(default=25, ge=0, lt=2**31)
    """Nodes of one execution that run at once, unless the request, the launch plan or an attribute sets it."""

    k8s_service_account: str = ""
    """Kubernetes service account of tasks for which no other level has one."""

    assumable_iam_role: str = ""
    """IAM role of tasks for which no other level has one."""

    output_location_prefix: str = ""
    """URI prefix of raw data for which no other level has one; with an empty one the engine decides."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of executions for which no other level has any; a JSON object in the environment."""

    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations of executions for which no other level has any; a JSON object in the environment."""

    envs: dict[str, str] = Field(default_factory=dict)
    """Environment of tasks for which no other level has any; a JSON object in the environment."""

    interruptible: bool = False
    """Whether tasks may run on preemptible machines, unless another level sets it."""

    overwrite_cache: bool = False
    """Whether every execution ignores and rewrites cached results."""

    max_label_entries: int = Field(default=0, ge=0)
    """Maximum number of labels of an execution, merged but without its project's; 0 is no limit."""

    max_annotation_entries: int = Field(default=0, ge=0)
    """Maximum number of annotations of an execution, merged; 0 is no limit."""

    cluster_pools: dict[str, str] = Field(default_factory=dict)
    """Cluster pool of each domain; a request with another one is refused. A JSON object in the environment."""

    task_resource_defaults: ResourceAmounts = ResourceAmounts(cpu="2", memory="200Mi")
    """Resources of a task that requests none, unless attributes set them; JSON in the environment."""

    engine: Literal["none", "kubernetes", "requests"] = "none"
    """What runs executions. kubernetes: flytepropeller, for which the service creates FlyteWorkflow resources in
    clusters. requests: a process that serves the requests ask.engine.* over NATS, as that of the sandbox does. none:
    another program finds executions and sends events."""

    cluster_weights: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Of each execution cluster label, the clusters and their weights; JSON in the environment. Executions with another
    label run in the clusters of default_cluster_label, or of all."""

    default_cluster_label: str = ""
    """Execution cluster label of executions for whose own label there is no enabled cluster."""

    offload_workflow_closures: bool = False
    """Whether every FlyteWorkflow resource refers to its workflow's closure in the object store instead of containing
    it; task resources and queues of attributes then do not change its tasks."""

    offload_inputs: bool = False
    """Whether every FlyteWorkflow resource refers to the inputs in the object store instead of containing them."""

    resource_max_bytes: int = Field(default=512 * 1024, ge=1024)
    """Size of a FlyteWorkflow resource from which its inputs, its workflow or both are offloaded; etcd stores 1.5 MiB
    at most, with the status, which grows while the execution runs."""

    iam_role_annotation: str = ""
    """Key of the annotation of a FlyteWorkflow resource for the execution's IAM role; without a key it has none."""

    console_url: str = ""
    """The console's address in links to executions that tasks receive; empty for none."""

    engine_patience_seconds: float = Field(default=600.0, gt=0)
    """How long a new execution waits while its engine is unavailable; after that it is FAILED."""

    lost_patience_seconds: float = Field(default=900.0, gt=0)
    """How long an execution has not changed before the service checks whether its engine still has it."""

    abort_patience_seconds: float = Field(default=60.0, gt=0)
    """How long a terminated execution waits for the engine's event that it has ended. After that the service makes it
    ABORTED, as its engine is gone or never received it. Later events of the engine change nothing."""

    queues: dict[str, list[str]] = Field(default_factory=dict)
    """Queues for tasks that are made by tasks, each with its tags; a JSON object in the environment."""

    queue_tags: dict[str, list[str]] = Field(default_factory=dict)
    """Queue tags of each domain, unless attributes set them; those of "" are for all other domains."""

    inline_data_max_bytes: int = Field(default=2 * _MEBIBYTE, ge=0)
    """Inputs and outputs of this size or more are returned as a signed URL only; 0 is no limit. Without
    signed_data_urls it limits only values that came inline with events, as no client could fetch the others."""

    signed_data_urls: bool = False
    """Whether the data RPCs return a signed URL in addition to the data."""

    signed_data_url_seconds: float = Field(default=3600.0, ge=1, le=_LONGEST_SIGNATURE_SECONDS)
    """Lifetime of the signed URLs of data."""

    inline_event_outputs: bool = False
    """Whether outputs that come inline with events stay in the closure instead of becoming objects."""

    upload_prefix: str = Field(default="uploads", min_length=1)
    """Folder of the object store for uploads of clients. The control plane writes its own objects elsewhere, so no
    upload can replace an execution's inputs."""

    upload_max_bytes: int = Field(default=5 * 1024 * _MEBIBYTE, ge=1)
    """Maximum size of an upload to a file:// store; Amazon S3 accepts as much in one request."""

    upload_max_expiry_seconds: float = Field(default=3600.0, ge=1, le=_LONGEST_SIGNATURE_SECONDS)
    """Maximum lifetime of an upload URL, and the lifetime when the request has none."""

    download_max_expiry_seconds: float = Field(default=3600.0, ge=1, le=_LONGEST_SIGNATURE_SECONDS)
    """Maximum lifetime of a download URL, and the lifetime when the request has none."""

    @model_validator(mode="after")
    def _check_configuration(self) -> Self:
        try:
            check_labels(self.labels)
            check_annotations(self.annotations)
            check_env_names(self.envs)
            check_service_account(self.k8s_service_account)
        except InvalidArgument as error:
            raise ValueError(error.message) from error
        return self

    @model_validator(mode="after")
    def _check_cluster_weights(self) -> Self:
        ids = {cluster.id for cluster in self.clusters}
        for label, weights in self.cluster_weights.items():
            if unknown := sorted(weights.keys() - ids):
                raise ValueError(
                    f"cluster_weights of {label!r} names {', '.join(unknown)}, which clusters does not have"
                )
            if not all(weight >= 0 for weight in weights.values()):
                raise ValueError(f"cluster_weights of {label!r} must not be negative")
        if self.default_cluster_label and self.default_cluster_label not in self.cluster_weights:
            raise ValueError("default_cluster_label must be a label of cluster_weights")
        return self

    @model_validator(mode="after")
    def _check_signing_key(self) -> Self:
        if self.objects_url.startswith("file:") and not self.signing_key:
            raise ValueError("signing_key is needed for the URLs of a file:// object store")
        return self

    @property
    def bucket_access(self) -> BucketAccess:
        """How buckets are reached, and which are read: also the one that engines write raw data to."""
        return super().bucket_access.with_bucket_of(self.output_location_prefix)

"""Settings of the executions service."""

from typing import Literal, Self

from pydantic import Field, model_validator

from services.contracts.execution_config import check_env_names, check_service_account
from services.contracts.labels import check_annotations, check_labels
from services.contracts.workflow_settings import ResourceAmounts, WorkflowSettings
from services.kit.errors import InvalidArgument

_MEBIBYTE = 1024 * 1024
# Amazon S3 and Google Cloud Storage sign for seven days at most.
_LONGEST_SIGNATURE_SECONDS = 7 * 24 * 3600.0


class Settings(WorkflowSettings):
    """What the executions service needs beyond what every service needs."""

    public_url: str = "http://localhost:30080"
    """The gateway's address as clients see it; signed URLs of a file:// store start with it."""

    signing_key: str = Field(default="", repr=False)
    """Secret that signs the URLs of a file:// store; the same for all replicas. A file:// store needs one."""

    max_parallelism: int = Field(default=25, ge=0, lt=2**31)
    """Nodes of one execution that run at once, when neither the request nor the launch plan nor an attribute says."""

    k8s_service_account: str = ""
    """Service account that tasks run as when nothing else names one."""

    assumable_iam_role: str = ""
    """IAM role that tasks assume when nothing else names one."""

    output_location_prefix: str = ""
    """Where raw data goes when nothing else says; empty leaves it to the engine."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of executions for which no other level has any; a JSON object in the environment."""

    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations of executions for which no other level has any; a JSON object in the environment."""

    envs: dict[str, str] = Field(default_factory=dict)
    """Environment of tasks for which no other level has any; a JSON object in the environment."""

    interruptible: bool = False
    """Whether tasks may run on machines that can be taken away, unless a level says otherwise."""

    overwrite_cache: bool = False
    """Whether every execution ignores and rewrites cached results."""

    max_label_entries: int = Field(default=0, ge=0)
    """Labels of an execution at most, after the merge and before its project's are added; 0 is no limit."""

    max_annotation_entries: int = Field(default=0, ge=0)
    """Annotations of an execution at most, after the merge; 0 is no limit."""

    cluster_pools: dict[str, str] = Field(default_factory=dict)
    """Cluster pool of each domain; a request that names another one is refused. A JSON object in the environment."""

    task_resource_defaults: ResourceAmounts = ResourceAmounts(cpu="2", memory="200Mi")
    """What a task is given that asks for nothing, unless attributes say; JSON in the environment."""

    engine: Literal["none"] = "none"
    """What runs executions. none: somebody else looks for them and sends events."""

    engine_patience_seconds: float = Field(default=600.0, gt=0)
    """How long a new execution waits while its engine cannot be asked; after that it has FAILED."""

    lost_patience_seconds: float = Field(default=900.0, gt=0)
    """How long nothing is heard of an execution before its engine is asked whether it still has it."""

    abort_patience_seconds: float = Field(default=60.0, gt=0)
    """How long an execution that somebody terminated waits for its engine's word that it has ended. After that it is
    ABORTED without: its engine is gone, or never took it up. What the engine says later changes nothing."""

    queues: dict[str, list[str]] = Field(default_factory=dict)
    """Queues for tasks that tasks make themselves, each with its tags; a JSON object in the environment."""

    queue_tags: dict[str, list[str]] = Field(default_factory=dict)
    """Tags of the queues of each domain, unless attributes say; those of "" are for all other domains."""

    namespace_template: str = "{{ project }}-{{ domain }}"
    """Namespace in which the executions of a project and domain run."""

    inline_data_max_bytes: int = Field(default=2 * _MEBIBYTE, ge=0)
    """Inputs and outputs from this size on are answered as signed URL only; 0 is no limit. Without
    signed_data_urls it bounds only values that events carried themselves, as nobody could fetch the rest."""

    signed_data_urls: bool = False
    """Whether the data RPCs answer a signed URL beside the data."""

    signed_data_url_seconds: float = Field(default=3600.0, ge=1, le=_LONGEST_SIGNATURE_SECONDS)
    """How long those URLs work."""

    inline_event_outputs: bool = False
    """Whether outputs that events carry themselves stay in the closure instead of becoming objects."""

    upload_prefix: str = Field(default="uploads", min_length=1)
    """Folder of the object store for uploads of clients: apart from what the control plane writes itself, so that no
    upload can take the place of an execution's inputs."""

    upload_max_bytes: int = Field(default=5 * 1024 * _MEBIBYTE, ge=1)
    """Bytes of an upload to a file:// store at most; Amazon S3 takes as much in one request."""

    upload_max_expiry_seconds: float = Field(default=3600.0, ge=1, le=_LONGEST_SIGNATURE_SECONDS)
    """Longest life of a URL to upload to, and the life of one for which nothing shorter is asked."""

    download_max_expiry_seconds: float = Field(default=3600.0, ge=1, le=_LONGEST_SIGNATURE_SECONDS)
    """Longest life of a URL to download from, and the life of one for which nothing shorter is asked."""

    @model_validator(mode="after")
    def _what_executions_can_run_with(self) -> Self:
        try:
            check_labels(self.labels)
            check_annotations(self.annotations)
            check_env_names(self.envs)
            check_service_account(self.k8s_service_account)
        except InvalidArgument as error:
            raise ValueError(error.message) from error
        return self

    @model_validator(mode="after")
    def _key_for_files(self) -> Self:
        if self.objects_url.startswith("file:") and not self.signing_key:
            raise ValueError("signing_key is needed for the URLs of a file:// object store")
        return self

"""Settings of Kubernetes clusters and namespaces that executions and projects need with the same values."""

from services.kit.kubernetes.settings import ClusterSettings


class NamespaceSettings(ClusterSettings):
    """Settings of a service that names the namespaces of executions."""

    namespace_template: str = "{{ project }}-{{ domain }}"
    """Kubernetes namespace in which the executions of a project-domain run."""

"""The engine `kubernetes`: FlyteWorkflow resources in Kubernetes clusters, which flytepropeller runs."""

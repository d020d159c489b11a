"""Client of Kubernetes API servers: credentials, requests and errors."""

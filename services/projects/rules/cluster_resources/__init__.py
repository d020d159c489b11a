"""Cluster resources: which Kubernetes objects a project-domain has (engine.md#cluster-resources).

`yaml_templates` makes objects of a template, `values` collects what its placeholders stand for, and `applied` decides
what is applied again.
"""

"""The projects service.

Owns: projects; matchable attributes; and, as configuration, the domains that every project has. In Kubernetes also
cluster resources: the objects that each project has in each domain.

Serves: RegisterProject, UpdateProject, GetProject, ListProjects, GetDomains, GetVersion of AdminService; Update, Get
and Delete of project, project-domain and workflow attributes, ListMatchableAttributes.

Publishes: a project was registered or updated; attributes were updated or deleted (`services.contracts.projects`).

Serves to other services: a project, which they request before they register or launch anything in it, alone or
together with the attributes that apply to a scope.

Requests: of executions, the default configuration of executions.
"""

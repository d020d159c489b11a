"""The projects service.

Owns: projects; matchable attributes; and, as configuration, the domains that every project has.

Serves: RegisterProject, UpdateProject, GetProject, ListProjects, GetDomains, GetVersion of AdminService; Update, Get
and Delete of project, project-domain and workflow attributes, ListMatchableAttributes.

Says: a project was registered or updated (`services.contracts.projects`); attributes were updated or deleted
(`services.contracts.attributes`).

Hears: the question for a project, which every other service asks before it lets something be made in one, alone or
together with the attributes that hold in a scope.

Asks: executions, for the configuration that executions have by default.
"""

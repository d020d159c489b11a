"""The projects service.

Owns: projects and, as configuration, the domains that every project has.

Serves: RegisterProject, UpdateProject, GetProject, ListProjects, GetDomains, GetVersion of AdminService.

Says: a project was registered or updated (`services.contracts.projects`).

Hears: the question for a project, which every other service asks before it lets something be made in one.
"""

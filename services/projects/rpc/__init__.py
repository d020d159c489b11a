"""RPCs of the projects service; methods have the RPCs' names."""

"""RPCs of the registry, one class for each kind of entity; methods have the RPCs' names."""

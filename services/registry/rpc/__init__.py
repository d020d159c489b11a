"""RPCs of the registry, a class for each of Flyte's nouns; methods have the RPCs' names."""

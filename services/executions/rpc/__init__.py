"""RPCs of the executions service, a class for each of Flyte's nouns; methods have the RPCs' names."""

"""RPCs of the events service; methods have the RPCs' names."""

"""RPCs of the events service; methods are named after RPCs."""

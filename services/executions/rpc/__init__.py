"""RPCs of the executions service. Each class has those about one subject; its methods have the names of the RPCs."""

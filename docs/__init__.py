"""Pages about Flyteplane, and what generates one of them."""

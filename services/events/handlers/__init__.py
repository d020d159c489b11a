"""One class per Flyte noun; methods carry the names of their RPCs."""

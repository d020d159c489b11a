"""The object store, and signed uploads and downloads of a file:// store."""

"""The user's own code that builds networks: the names that may be imported, the import, errors."""

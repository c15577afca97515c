"""One module a script: from settings to results."""

"""Exported graphs of an artifact, and what runs them."""

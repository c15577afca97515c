"""Exported graphs of an artifact, and the sessions and parts that run them."""

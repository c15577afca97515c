"""Workflows: one module per script, from settings to results."""

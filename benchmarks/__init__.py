"""Measurements side by side, and the README's generated tables."""

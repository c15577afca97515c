"""Measurements of variants side by side, and the README's generated tables."""

"""Bandits over the last active branch, on recorded images, beside choices that stay."""

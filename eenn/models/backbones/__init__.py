"""Backbones, one file a family: a list of blocks and a classifier."""

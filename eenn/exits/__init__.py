"""Exits: policies, their decisions for samples, head sets."""

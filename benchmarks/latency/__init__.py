"""Predicted times of networks and devices that were never measured, held against measured ones."""

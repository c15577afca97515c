"""Early-exit image classifiers that run between an edge device and the cloud."""

__version__ = "0.2.0"

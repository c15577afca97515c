"""Early-exit image classifiers between an edge device and the cloud."""

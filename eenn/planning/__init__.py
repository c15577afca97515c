"""Predicted costs of any choice of branches, threshold and payload, and the choice of the best."""

"""Training: the loss over all exits, the Lightning module and its callbacks."""

"""Export of an artifact to the graphs that edge and cloud run."""

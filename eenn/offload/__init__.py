"""Edge and cloud: the stages of an artifact run on both sides of a network link."""

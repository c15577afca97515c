"""Edge and cloud: an artifact's network run on both sides of a link."""

"""Named planners on problems with known answers."""

"""Exit rules of the literature on the records of a real network, at exactly equal mean cost."""

"""Raw logits and times of a network, recorded once and kept."""

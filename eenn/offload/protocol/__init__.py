"""What edge and cloud say to each other: messages, payload codecs, errors."""

"""The protocol between edge and cloud: messages, payload codecs, errors."""

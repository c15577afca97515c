"""The cloud: an ASGI server that runs the rest of the network. No torch."""

"""The cloud: an ASGI server that answers with the rest of the network. No torch."""

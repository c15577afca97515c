"""How the edge asks a cloud over HTTP: connections, time limits, retries, and a circuit breaker."""

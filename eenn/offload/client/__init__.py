"""The edge's HTTP client: connections, time limits, retries, and a circuit breaker."""

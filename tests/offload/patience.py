"""How long tests wait for what is there at once: longer than any machine stalls."""

PATIENCE_S = 60.0
# Limits of an HttpCloud; that of a question is given with it.
PATIENT = {"connect_timeout_ms": 1e3 * PATIENCE_S, "read_timeout_ms": 1e3 * PATIENCE_S}

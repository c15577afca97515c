"""Metrics of the cloud, in the text format of Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128)


class CloudMetrics:
    """Counters and histograms of one server.

    Labels are names of served models, statuses and causes, so requests cannot create new labels.

    Args:
        waiting: returns the number of samples in the queue.
    """

    def __init__(self, waiting: Callable[[], float]) -> None:
        self._registry = own = CollectorRegistry()
        self.requests = Counter(
            "eenn_requests", "Requests for inference.", ("model", "status"), registry=own
        )
        self.background = Counter(
            "eenn_background", "Requests of lowest priority among them.", ("status",), registry=own
        )
        self.refused = Counter("eenn_refused", "Requests refused.", ("cause",), registry=own)
        self._batch = Histogram(
            "eenn_batch_samples", "Samples of a batch.", registry=own, buckets=SAMPLES
        )
        self._queue = Histogram(
            "eenn_queue_seconds", "A request's time in the queue.", registry=own, buckets=SECONDS
        )
        self._model = Histogram(
            "eenn_model_seconds", "A batch's time in its model.", registry=own, buckets=SECONDS
        )
        Gauge("eenn_queue_samples", "Samples that wait.", registry=own).set_function(waiting)

    def note_batch(self, samples: int, model_ms: float) -> None:
        """Count a batch of `samples`, and the milliseconds in its model."""
        self._batch.observe(samples)
        self._model.observe(model_ms / 1e3)

    def note_wait(self, queue_ms: float) -> None:
        """Count the milliseconds that a computed request was queued."""
        self._queue.observe(queue_ms / 1e3)

    def text(self) -> bytes:
        """Format all metrics for /metrics."""
        return generate_latest(self._registry)

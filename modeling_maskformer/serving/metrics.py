"""What the service counts, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .batch_queue import BatchQueue

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ServiceMetrics:
    """The counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("maskformer_requests", "Answered requests for segments.", ["status"], **own)
        self.seconds = Histogram("maskformer_request_seconds", "From a request to its answer.", buckets=SECONDS, **own)
        self.batch_sizes = Histogram(
            "maskformer_batch_size",
            "Pictures that went through the model at once.",
            buckets=(1, 2, 4, 8, 16, 32),
            **own,
        )
        self.in_work = Gauge("maskformer_requests_in_work", "Requests that are read, wait or are answered.", **own)
        self.waiting = Gauge("maskformer_requests_waiting", "Requests that wait for the model.", **own)

    def watch(self, queue: BatchQueue) -> None:
        """Shows how full a queue is."""
        self.in_work.set_function(lambda: queue.in_work)
        self.waiting.set_function(lambda: queue.waiting)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)

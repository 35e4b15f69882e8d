"""The figures of a service, in the text form of Prometheus. Needs prometheus-client (the extra `serve`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from .feeds import Counts
from .messages import Answer
from .service import Service

LATENCY_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1.0)  # upper ends of the histogram's parts
HELP = {"lifted": "Frames that were lifted", "dropped": "Frames that newer ones replaced before they were lifted",
        "refused": "Frames that did not fit", "poses": "Poses of the lifted frames"}


class Metrics:
    """The figures of one service. Raises ImportError without prometheus-client."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Histogram

        self._registry = CollectorRegistry()
        self._latency = Histogram("edgepose_latency_seconds", "Time from a frame's arrival to its poses",
                                  buckets=LATENCY_S, registry=self._registry)

    def serve(self, service: Service) -> None:
        """Shows what this service counts."""
        self._service = service
        self._registry.register(self)

    def answered(self, answer: Answer) -> None:
        """Notes an answer's latency."""
        self._latency.observe(answer.latency_ms / 1e3)

    def text(self) -> tuple[bytes, str]:
        """All figures, and the content type of the text."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Any]:
        """The figures, as prometheus-client asks for them."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        service = self._service
        feeds = [one.feed for one in service.opens.values()]
        for count in fields(Counts):
            total = sum(asdict(feed.counts)[count.name] for feed in feeds) + getattr(service.past, count.name)
            noun = "poses" if count.name == "poses" else f"frames_{count.name}"
            yield CounterMetricFamily(f"edgepose_{noun}", HELP[count.name], total)
        yield CounterMetricFamily("edgepose_answers_dropped", "Answers that newer ones replaced before a client read "
                                  "them", service.answers_dropped + sum(box.dropped for box in service.outboxes))
        yield GaugeMetricFamily("edgepose_clients", "Clients that are connected", len(service.outboxes))
        yield GaugeMetricFamily("edgepose_feeds", "Feeds that are open", len(feeds))
        notices = CounterMetricFamily("edgepose_notices", "What was noticed of the input", labels=["kind"])
        kinds = [service.past_notices, *(feed.notices for feed in feeds)]
        for kind in sorted(set().union(*kinds)):
            notices.add_metric([kind], sum(counts.get(kind, 0) for counts in kinds))
        yield notices

"""Counters and histograms of all worker processes (Prometheus).

Labels come from closed sets: services, outcomes, protocols; never from UIDs or free text.
"""

import os
from functools import lru_cache
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# Set before any worker begins (`archive.starting`): it decides how values are kept.
_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"

INSTANCES_STORED: Final = Counter(
    "fileroom_instances_stored",
    "Instances taken in, by protocol and what became of them.",
    ["protocol", "outcome"],
)
COMMITMENTS_REQUESTED: Final = Counter(
    "fileroom_commitments_requested",
    "Requests for storage commitment: accepted, repeated, or under a UID used before.",
    ["outcome"],
)
COMMITMENTS_FINISHED: Final = Counter(
    "fileroom_commitments_finished",
    "Storage commitments reported, in whole or in part, or given up because nobody answered.",
    ["outcome"],
)
REQUESTS_SERVED: Final = Histogram(
    "fileroom_requests_served_seconds",
    "HTTP requests, by transaction and status class.",
    ["transaction", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
BUCKET_REQUESTS: Final = Histogram(
    "fileroom_bucket_requests_seconds",
    "Requests to the bucket that holds the objects, repetitions included, by what was asked.",
    ["request", "outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
INSTANCES_FORWARDED: Final = Counter(
    "fileroom_instances_forwarded",
    "Instances sent on to peers, by what became of them: sent, refused, failed.",
    ["outcome"],
)
FORWARDS_ENDED: Final = Counter(
    "fileroom_forwards_ended",
    "Tries to forward a study, by what it then is: done, waiting, dead, cancelled.",
    ["state"],
)
FORWARDS_OPEN: Final = Gauge(
    "fileroom_forwards_open",
    "Studies to be forwarded, of all nodes together, by state: waiting, sending, dead.",
    ["state"],
    multiprocess_mode="livemostrecent",
)


def note_bucket_request(request: str, outcome: str, seconds: float) -> None:
    """Count a request to the bucket."""
    BUCKET_REQUESTS.labels(request, outcome).observe(seconds)


def note_request(transaction: str, status_class: int, seconds: float) -> None:
    """Count a request over HTTP that was answered with a status of ``status_class``."""
    _request_histogram(transaction, status_class).observe(seconds)


@lru_cache
def _request_histogram(transaction: str, status_class: int) -> Histogram:
    # To find it by its labels costs more than to count.
    return REQUESTS_SERVED.labels(transaction, f"{status_class}xx")


def exposition() -> bytes:
    """Return the numbers of every process, in Prometheus' text format."""
    if _FOLDER not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # the library
    return generate_latest(registry)

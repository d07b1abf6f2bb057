"""What `/metrics` tells a monitoring system, and the two words for those who watch over the server."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.http.client import HttpClient
from tests.server import PATIENCE_S, ServerProcess
from workq.figures import Histogram


def read(http: HttpClient) -> dict[str, float]:
    """All samples, by name and labels as they are written."""
    answer = http.get("/metrics")
    assert (answer.status, answer.type) == (200, "text/plain; version=0.0.4")
    samples = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join([f"{key}={value}" for key, value in sorted(sample.labels.items())])
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def until(http: HttpClient, key: str, value: float) -> dict[str, float]:
    """Ask until a sample has a value that the server comes to by itself."""
    give_up = time.monotonic() + PATIENCE_S
    while (samples := read(http)).get(key) != value:
        assert time.monotonic() < give_up, f"{key} is {samples.get(key)}, not {value}"
    return samples


@pytest.fixture
def own_http() -> Iterator[HttpClient]:
    """A connection to a server of its own, whose counters start at nothing."""
    with ServerProcess("--http", "127.0.0.1:0") as server, HttpClient(server) as client:
        yield client


def test_jobs_by_queue_and_state(own_http: HttpClient) -> None:
    for options in ({}, {}, {"run_at": "2999-01-01T00:00:00Z"}):
        own_http.post("/v1/jobs", {"queue": "mail", **options})
    own_http.post("/v1/queues/mail/lease")
    samples = read(own_http)
    assert {key: value for key, value in samples.items() if key.startswith("workq_jobs{queue=mail")} == {
        "workq_jobs{queue=mail,state=scheduled}": 1,
        "workq_jobs{queue=mail,state=ready}": 1,
        "workq_jobs{queue=mail,state=leased}": 1,
        "workq_jobs{queue=mail,state=completed}": 0,
        "workq_jobs{queue=mail,state=failed}": 0,
    }
    assert samples["workq_queues"] == 1
    assert samples["workq_stored_bytes"] > 0


def test_of_many_queues_the_largest_are_told_apart(own_http: HttpClient) -> None:
    for _ in range(3):
        added = own_http.post("/v1/jobs", {"queue": "past"})
        own_http.delete(f"/v1/jobs/{added.json['id']}")
    for number in range(250):
        for _ in range(2 if number == 249 else 1):
            own_http.post("/v1/jobs", {"queue": f"q{number}"})
    samples = read(own_http)
    ready = {key: value for key, value in samples.items() if key.endswith(",state=ready}")}
    assert len(ready) == 201
    assert ready["workq_jobs{queue=q249,state=ready}"] == 2
    assert ready["workq_jobs{queue=(others),state=ready}"] == 50
    assert "workq_jobs{queue=past,state=ready}" not in ready
    assert samples["workq_queues"] == 251


def test_commands_waiters_and_connections(own_http: HttpClient) -> None:
    with own_http.another() as waiting:
        waiting.send("POST", "/v1/queues/mail/lease", json={"wait_ms": 60_000})
        samples = until(own_http, "workq_waiters{for=job}", 1)
        assert samples["workq_connections{door=http}"] == 2
        assert samples["workq_connections{door=tcp}"] == 0
        assert samples["workq_commands_total{kind=Lease}"] == 1
        own_http.post("/v1/jobs", {"queue": "mail"})
        own_http.post("/v1/jobs", {"queue": "mail"})
        waiting.answer()
    samples = read(own_http)
    assert samples["workq_commands_total{kind=Add}"] == 2
    assert samples["workq_waiters{for=job}"] == 0
    assert samples["workq_accepting"] == 1
    for _ in range(32):
        own_http.post("/v1/jobs", {"queue": "mail"})
    assert read(own_http)["workq_turn_seconds_count"] >= 2


def test_requests_by_route_and_status(own_http: HttpClient) -> None:
    own_http.post("/v1/jobs", {"queue": "mail"})
    own_http.post("/v1/jobs", {"queue": "m a i l"})
    own_http.get("/there/is/nothing")
    own_http.get("/hq/there/is/nothing")
    samples = read(own_http)
    assert samples["workq_http_requests_total{method=POST,route=/v1/jobs,status=201}"] == 1
    assert samples["workq_http_requests_total{method=POST,route=/v1/jobs,status=400}"] == 1
    assert samples["workq_http_requests_total{method=(nowhere),route=(nowhere),status=404}"] == 2
    assert samples["workq_http_request_seconds_count{route=/v1/jobs}"] == 2
    assert samples["workq_http_request_seconds_bucket{le=+Inf,route=/v1/jobs}"] == 2
    assert samples["workq_http_request_seconds_bucket{le=10.0,route=/v1/jobs}"] == 2


def test_requests_whose_client_hung_up(own_http: HttpClient) -> None:
    with own_http.another() as waiting:
        waiting.send("POST", "/v1/queues/mail/lease", json={"wait_ms": 60_000})
        until(own_http, "workq_waiters{for=job}", 1)
    key = "workq_http_requests_total{method=POST,route=/v1/queues/{name}/lease,status=hung-up}"
    assert until(own_http, key, 1)["workq_waiters{for=job}"] == 0


def test_the_log(tmp_path: Path) -> None:
    with ServerProcess("--http", "127.0.0.1:0", f"--data-dir={tmp_path}") as server, HttpClient(server) as http:
        for _ in range(3):
            http.post("/v1/jobs", {"queue": "mail", "payload": "x" * 1000})
        samples = read(http)
    assert samples["workq_log_batches_total"] == samples["workq_log_sync_seconds_count"] == 3
    assert samples["workq_log_batch_clients_total"] == 3
    assert samples["workq_log_bytes_total"] > 3000


def test_the_process_and_its_event_loop(own_http: HttpClient) -> None:
    samples = read(own_http)
    assert samples["process_resident_memory_bytes"] > 0
    assert "workq_event_loop_lag_seconds_count" in samples


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.5):
        histogram.observe(value)
    assert (histogram.counts, histogram.total) == ([2, 1, 1], 5.5)


def test_health(own_http: HttpClient) -> None:
    for path in ("/healthz", "/readyz"):
        answer = own_http.get(path)
        assert (answer.status, answer.text) == (200, "ok\n")

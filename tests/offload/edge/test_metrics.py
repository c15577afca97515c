"""/metrics of the edge, read by the parser of Prometheus' own client."""

import http.client
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from eenn.artifact.guard_settings import GuardSettings
from eenn.offload.adaptation.guard import Guard
from eenn.offload.adaptation.state import TOTALS, GuardState
from eenn.offload.adaptation.status import STATES, status
from eenn.offload.edge.metrics import metrics
from eenn.offload.edge.server import EdgeServer
from tests.offload.edge.edge_service import Failing, runtime_of, serving
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S

GAUGES = (
    "promised_risk", "threshold", "edge_share", "expected_share", "agreement", "agreement_low",
    "agreement_high", "risk_low", "risk_high",
)  # fmt: skip
EMPTY = {"answered": {"edge": 0, "cloud": 0}, "failures": {}}


def guarded(**changed: Any) -> dict[str, Any]:
    """What a guard says of itself after some audits and alarms."""
    state = GuardState(1, 0.8, totals={name: 3 + n for n, name in enumerate(TOTALS)})
    guard = Guard(GuardSettings(), (0.9, 0.7, 0.5), 1, 0.8, replace(state, **changed))
    for turn in [guard.begin() for _ in range(4)]:
        guard.kept(replace(turn, audit=True, rate=0.5))
    return status(guard, "p_tar")


def parsed(text: str) -> tuple[dict[str, str], dict[tuple[str, frozenset[Any]], float]]:
    """The type of every metric, and every sample by its name and labels."""
    families = list(text_string_to_metric_families(text))
    types = {family.name: family.type for family in families}
    assert all(family.documentation.endswith(".") for family in families)
    assert len(types) == len(families)
    samples = [sample for family in families for sample in family.samples]
    found = {(own.name, frozenset(own.labels.items())): own.value for own in samples}
    assert len(found) == len(samples)
    return types, found


def labelled(name: str, **labels: str) -> tuple[str, frozenset[Any]]:
    return f"eenn_edge_{name}", frozenset(labels.items())


@pytest.mark.parametrize("in_burst", [False, True])
def test_names_types_and_values_are_those_of_health(in_burst: bool) -> None:
    guard = guarded(reference=None) if in_burst else guarded()
    health = {"answered": {"edge": 7, "cloud": 5}, "failures": {"read": 2, "refused": 1}}
    types, found = parsed(metrics({**health, "guard": guard}))
    expected: dict[Any, float] = {
        labelled("answered_total", place=p): n for p, n in health["answered"].items()
    }
    expected |= {labelled("failures_total", cause=c): n for c, n in health["failures"].items()}
    totals = dict(guard["totals"])
    for kind in ("risk", "share"):
        expected[labelled("guard_alarms_total", kind=kind)] = totals.pop(f"{kind}_alarms")
    expected |= {labelled(f"guard_{name}_total"): count for name, count in totals.items()}
    values = {name: guard[name] for name in GAUGES}
    # Prometheus has no null: a threshold that does not exist has no sample.
    assert (values["threshold"] is None) == in_burst
    expected |= {labelled(f"guard_{n}"): v for n, v in values.items() if v is not None}
    for state in STATES:
        expected[labelled("guard_state", state=state)] = float(state == guard["state"])
    assert found == expected
    counters = {"answered", "failures", "guard_alarms", *(f"guard_{name}" for name in totals)}
    gauges = {"guard_state", *(f"guard_{name}" for name in GAUGES)}
    kinds = dict.fromkeys(counters, "counter") | dict.fromkeys(gauges, "gauge")
    assert types == {f"eenn_edge_{name}": kind for name, kind in kinds.items()}


def test_without_a_guard_there_are_the_counts_of_answers_alone() -> None:
    types, found = parsed(metrics({**EMPTY, "guard": None}))
    assert types == {"eenn_edge_answered": "counter", "eenn_edge_failures": "counter"}
    assert found == {labelled("answered_total", place=place): 0 for place in ("edge", "cloud")}


def test_labels_are_escaped() -> None:
    cause = 'a "quoted"\\ cause\nin two lines'
    _, found = parsed(metrics({**EMPTY, "failures": {cause: 1}, "guard": None}))
    assert found[labelled("failures_total", cause=cause)] == 1


@pytest.fixture
def server(exported: Exported) -> Iterator[EdgeServer]:
    with serving(runtime_of(exported, Failing())) as server:
        yield server


def test_they_are_served_also_as_a_head(exported: Exported, server: EdgeServer) -> None:
    def ask(method: str) -> tuple[bytes, http.client.HTTPMessage]:
        address = urlsplit(server.url).netloc
        with closing(http.client.HTTPConnection(address, timeout=PATIENCE_S)) as connection:
            connection.request(method, "/metrics")
            response = connection.getresponse()
            assert response.status == 200
            return response.read(), response.headers

    for file in exported.files[:6]:
        with file.open("rb") as photo:
            server.classify(photo)  # type: ignore[arg-type]
    body, headers = ask("GET")
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    _, found = parsed(body.decode())
    assert found[labelled("answered_total", place="edge")] == 6
    assert body.decode() == metrics(server.health())
    nothing, same = ask("HEAD")
    assert (nothing, same["Content-Length"]) == (b"", str(len(body)))

"""Metrics of the edge, in the text format of Prometheus, from the content of /health."""

from collections.abc import Iterable, Iterator, Mapping

from eenn.files import Json, JsonObject
from eenn.offload.adaptation.status import STATES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Samples = Iterable[tuple[Mapping[str, str], Json]]


def metrics(health: JsonObject) -> str:
    """Format the counters of the edge, and the guard in numbers.

    Args:
        health: see `EdgeServer.health`.
    """
    answered, failures = _by("place", health["answered"]), _by("cause", health["failures"])
    parts = [
        _metric("answered", "Images answered.", "counter", answered),
        _metric("failures", "Images that the cloud did not answer.", "counter", failures),
    ]
    guard = health["guard"]
    if isinstance(guard, Mapping):
        parts += _of_guard(guard)
    return "".join(parts)


def _of_guard(guard: JsonObject) -> Iterator[str]:
    totals = guard["totals"]
    assert isinstance(totals, Mapping)
    for name, help_ in _TOTALS.items():
        yield _metric(f"guard_{name}", help_, "counter", [({}, totals[name])])
    alarms = [({"kind": kind}, totals[f"{kind}_alarms"]) for kind in ("risk", "share")]
    yield _metric("guard_alarms", "Alarms.", "counter", alarms)
    for name, help_ in _GAUGES.items():
        yield _metric(f"guard_{name}", help_, "gauge", [({}, guard[name])])
    states = [({"state": state}, int(state == guard["state"])) for state in STATES]
    yield _metric("guard_state", "1 for what the guard does, 0 for the rest.", "gauge", states)


def _metric(name: str, help_: str, kind: str, samples: _Samples) -> str:
    """Format a metric; samples without a value are left out."""
    full = f"eenn_edge_{name}{'_total' * (kind == 'counter')}"
    lines = [f"# HELP {full} {help_}", f"# TYPE {full} {kind}"]
    for labels, value in samples:
        if value is not None:
            own = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(f"{full}{{{own}}} {value}" if own else f"{full} {value}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _by(label: str, counts: Json) -> _Samples:
    assert isinstance(counts, Mapping)
    return [({label: key}, count) for key, count in counts.items()]


_TOTALS = {
    "images": "Images that the guard decided about.",
    "kept": "Images that left on the edge.",
    "audits": "Audits with a result.",
    "disagreements": "Audits that differ from the cloud.",
    "dropped_audits": "Audits without a result.",
    "bursts": "Bursts in which everything is offloaded.",
}
_GAUGES = {
    "promised_risk": "Largest share of images to leave with another answer than the cloud.",
    "threshold": "The threshold in force; missing while everything is offloaded.",
    "edge_share": "Share of the newest images that left on the edge.",
    "expected_share": "The same when the threshold was fitted.",
    "agreement": "Share of audited answers that equal the cloud.",
    "agreement_low": "Lower end of its interval, valid at all times.",
    "agreement_high": "Upper end of its interval, valid at all times.",
    "risk_low": "Lower end of the interval of the risk, valid at all times.",
    "risk_high": "Upper end of the interval of the risk, valid at all times.",
}

"""The guard in numbers, for /health, the page and the metrics of an edge."""

import math

from eenn.files import Json
from eenn.offload.adaptation.guard import Guard
from eenn.offload.adaptation.state import OFFLOAD_ALL

STATES = WATCHING, SUSPICIOUS, BURST, OFFLOADING, PAUSED = (
    "watching",
    "suspicious",
    "burst",
    "offloading",
    "paused",
)


def state_of(guard: Guard) -> str:
    """Name what the guard does.

    Returns:
        `burst`: all images are offloaded, to fit the threshold anew; `paused`: the cloud does not
        answer; `offloading`: the last burst showed no safe threshold; `suspicious`: audits are
        frequent; else `watching`.
    """
    if guard.state.burst is not None:
        return BURST
    if guard.offline:
        return PAUSED
    if guard.state.at == OFFLOAD_ALL:
        return OFFLOADING
    return SUSPICIOUS if guard.suspects else WATCHING


def status(guard: Guard, knob: str) -> dict[str, Json]:
    """Describe the guard.

    `agreement` is the share of audited answers that equal the cloud's, and `risk` the share of all
    images that leave although the cloud would answer otherwise. Each has the ends of an interval
    that holds at all times except with probability delta, of the mean since the threshold in force
    was fitted. `edge_share` is that of the newest images, `expected_share` that of the fit.

    Args:
        knob: name of the threshold.
    """
    state, settings = guard.state, guard.settings
    differing = state.disagreement
    low, high = differing.interval(settings.delta)
    risk_low, risk_high = state.risk.interval(settings.delta)
    agreement = 1 - differing.events / differing.audits if differing.audits else None
    return {
        "promised_risk": settings.risk,
        "delta": settings.delta,
        "audit": settings.audit,
        "state": state_of(guard),
        "knob": knob,
        "threshold": guard.threshold,
        "images": state.since,
        "edge_share": None if math.isnan(guard.newest_share) else guard.newest_share,
        "expected_share": state.reference,
        "audits": differing.audits,
        "agreement": agreement,
        "agreement_low": 1 - high,
        "agreement_high": 1 - low,
        "risk_low": risk_low,
        "risk_high": risk_high,
        "burst_images": None if state.burst is None else state.burst.images,
        "burst_size": None if state.burst is None else state.burst_size,
        "totals": dict(state.totals),
    }

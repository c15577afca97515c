"""What is true of a guard in any stream of images, audits and outages."""

import math
from collections.abc import Callable
from dataclasses import asdict
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from eenn.artifact.guard_settings import GuardSettings
from eenn.offload.adaptation.guard import Guard
from eenn.offload.adaptation.refit import images_needed
from eenn.offload.adaptation.state import OFFLOAD_ALL
from tests.offload.adaptation.driven import Driver, Phase, Seen

VALUES = (1.0, 0.9, 0.8, 0.7, 0.6)
# Bursts of few images, so that a short stream has several.
QUICK = GuardSettings(risk=0.3, delta=0.3, audit=0.5)

parts = st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0])
seldom = st.sampled_from([0.0, 0.0, 0.2, 0.7])
phases = st.lists(
    st.builds(
        Phase,
        images=st.integers(1, 80),
        leaves=parts,
        differs=parts,
        fails=seldom,
        drops=seldom,
        lingers=st.sampled_from([0.0, 0.5, 0.8]),
        busy=seldom,
    ),
    min_size=1,
    max_size=5,
)
guard_settings = st.builds(
    GuardSettings,
    risk=st.sampled_from([0.1, 0.3]),
    delta=st.sampled_from([0.1, 0.5]),
    audit=st.sampled_from([0, 0.05, 0.5, 1]),
)
references = st.sampled_from([None, 0.0, 0.5, 0.9, 1.0])
seeds = st.integers(0, 1000)


def guard(
    settings: GuardSettings = QUICK,
    reference: float | None = 0.6,
    start: int = 2,
    tell: Callable[[str], None] = lambda _: None,
    seed: int = 0,
) -> Guard:
    return Guard(settings, VALUES, start, reference, tell=tell, seed=seed)


def check(driver: Driver, name: str, image: Seen, before: dict[str, int], in_burst: bool) -> None:
    """Hold a guard against what is true after every event of any stream."""
    own, state, turn = driver.guard, driver.guard.state, image.turn
    totals, calls = state.totals, driver.calls
    assert totals["images"] == calls["begin"]
    assert totals["kept"] == calls["kept"]
    assert totals["audits"] == calls["audited"]
    assert totals["dropped_audits"] == calls["dropped"]
    assert totals["disagreements"] == driver.disagreements
    assert (own.threshold is None) == (state.burst is not None or state.at == OFFLOAD_ALL)
    assert own.threshold is None or own.threshold == VALUES[state.at]
    if name == "begin":
        assert turn.offload_all == (own.threshold is None)
        assert 0 <= turn.rate <= 1
        assert not (turn.rate and (turn.offload_all or not own.settings.audit))
        assert not (turn.audit and not turn.rate)
    alarms = [kind for kind in ("risk", "share") if totals[f"{kind}_alarms"] > before[kind]]
    if alarms:
        # One alarm, by an image that began while the cloud answered and the threshold held.
        assert len(alarms) == 1
        assert image.online
        assert not in_burst
        assert not turn.offload_all
        assert alarms == ["risk"] if name == "audited" else ["share"]
        assert state.burst is not None
        assert state.burst.images == 0
    if state.burst is not None:
        assert state.burst.images < state.burst_size
    if in_burst and state.burst is None:
        assert name == "sent"
        values = own.snapshot()
        assert set(values.risk_values) | set(values.share_values) == {0}
        assert (state.since, state.risk.audits, state.disagreement.audits) == (0, 0, 0)
        assert math.isnan(own.newest_share)


@settings(max_examples=150)
@given(guard_settings, references, phases, seeds)
def test_what_is_true_of_every_stream(
    settings: GuardSettings, reference: float | None, stream: list[Phase], seed: int
) -> None:
    own = guard(settings, reference)
    driver = Driver(own, seed)
    smallest = 3 * images_needed(settings.risk, settings.delta)
    bursts, refits = int(reference is None), 0
    totals, in_burst = own.state.totals, own.state.burst is not None
    assert in_burst == (reference is None)
    before = {kind: totals[f"{kind}_alarms"] for kind in ("risk", "share")}
    for name, image in driver.run(*stream):
        check(driver, name, image, before, in_burst)
        before = {kind: totals[f"{kind}_alarms"] for kind in ("risk", "share")}
        now = own.state.burst is not None
        bursts, refits = bursts + (now and not in_burst), refits + (in_burst and not now)
        in_burst = now
        assert own.state.burst_size in (0, smallest, 2 * smallest, 4 * smallest)
    assert totals["bursts"] == bursts
    assert bursts - refits == in_burst
    assert sum(before.values()) <= bursts
    if not settings.audit:
        assert driver.calls["audited"] == driver.calls["dropped"] == before["risk"] == 0


def test_the_drawn_streams_have_all_kinds_of_events() -> None:
    """Nothing above is true only because it never comes to that."""
    kinds = {"risk_alarms": 0, "share_alarms": 0, "bursts": 0, "dropped_audits": 0, "late": 0}
    settings = GuardSettings(risk=0.1, delta=0.3, audit=0.5)
    steady = Phase(60, 1, 0, drops=0.1, lingers=0.6)
    for seed, change in product(range(8), (Phase(300, 1, 1, lingers=0.7), Phase(60, 0.1, 0))):
        driver = Driver(guard(settings, seed=seed), seed)
        for name, image in driver.run(steady, change):
            kinds["late"] += name == "audited" and image.turn.era != driver.guard.era
        for kind in driver.guard.state.totals.keys() & kinds.keys():
            kinds[kind] += driver.guard.state.totals[kind]
    assert min(kinds.values()) >= 5, kinds


@settings(max_examples=30)
@given(guard_settings, references, phases, seeds)
def test_one_seed_and_one_stream_make_one_course(
    settings: GuardSettings, reference: float | None, stream: list[Phase], seed: int
) -> None:
    told: list[list[str]] = [[], []]
    courses = []
    for tell in told:
        driver = Driver(guard(settings, reference, tell=tell.append, seed=seed), seed)
        turns = [asdict(image.turn) for name, image in driver.run(*stream) if name == "begin"]
        courses.append((turns, str(driver.guard.snapshot())))
    assert courses[0] == courses[1]
    assert told[0] == told[1]


def test_other_seeds_audit_other_images() -> None:
    drawn = []
    for seed in (1, 2):
        own = guard(seed=seed)
        drawn.append([own.begin().audit for _ in range(100)])
        assert 30 < sum(drawn[-1]) < 70
    assert drawn[0] != drawn[1]

"""What a guard counts: against a loop over images, in the mean, in outages, under suspicion."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eenn.artifact.guard_settings import GuardSettings
from eenn.offload.adaptation.detectors import RISK_RATIOS, SHARE_SHIFTS
from eenn.offload.adaptation.guard import (
    LARGEST_BURST,
    LOOK,
    RISK_SUSPICION,
    SHARE_SUSPICION,
    SUSPICIOUS,
    Guard,
)
from eenn.offload.adaptation.refit import Evidence, boldest
from eenn.offload.adaptation.state import GAP, OFFLOAD_ALL
from tests.offload.adaptation.driven import CANDIDATES, Driver, Phase, Seen

VALUES = (1.0, 0.9, 0.8, 0.7, 0.6)
# Half of the images are audited, so that suspicion changes no rate.
FREQUENT = GuardSettings(risk=0.3, delta=0.3, audit=0.5)
seldom = st.sampled_from([0.0, 0.2, 0.5])


def guard(
    settings: GuardSettings, reference: float | None = 0.6, seed: int = 0, start: int = 2
) -> Guard:
    return Guard(settings, VALUES, start, reference, seed=seed)


def evidence(leaves: int, differs: int = CANDIDATES) -> Evidence:
    """An image that leaves from candidate `leaves` on, and not as the cloud from `differs` on."""
    numbers = np.arange(CANDIDATES)
    return Evidence(numbers >= leaves, numbers >= max(leaves, differs))


def until(done: Callable[[], bool], step: Callable[[], None]) -> None:
    """Repeat a step until all is done, which comes soon."""
    for _ in range(2000):
        if done():
            return
        step()
    raise AssertionError("2000 steps were not enough")


class Books:
    """The sums of an era, image by image: an audit's result counts all images since the last."""

    def __init__(self, own: Guard) -> None:
        self.risk, self.reference = own.settings.risk, own.state.reference or 0
        self.tolerance = own.state.tolerance
        self.since: list[tuple[float, bool]] = []
        self.blocks: dict[int, list[tuple[float, bool]]] = {}
        self.weight, self.weight_of_left, self.events, self.audits = 0.0, 0.0, 0, 0
        self.risk_values, self.share_values = [0.0] * len(RISK_RATIOS), [0.0] * 6

    def see(self, name: str, image: Seen) -> None:
        if not image.online or name == "begin":
            return
        if name in ("kept", "sent", "failed"):
            self._leaves(name == "kept")
            self.since.append((image.turn.rate, name == "kept"))
            if name == "kept" and image.turn.audit:
                self.blocks[id(image)], self.since = self.since, []
            return
        block = self.blocks.pop(id(image))
        if name == "audited":
            for number, (rate, left) in enumerate(block, start=1):
                self._audit(image.differs and number == len(block), rate)
                self.weight += rate
                self.weight_of_left += rate * left
            self.events += image.differs
            self.audits += 1

    def _audit(self, event: bool, rate: float) -> None:
        p0 = self.risk * rate
        for at, ratio in enumerate(RISK_RATIOS if rate else ()):
            p1 = min(ratio * p0, 0.999)
            change = p1 / p0 if event else (1 - p1) / (1 - p0)
            self.risk_values[at] = (self.risk_values[at] + 1) * change

    def _leaves(self, event: bool) -> None:
        for at in range(6):
            more = at < 3
            p0 = (self.reference if more else 1 - self.reference) + self.tolerance
            p1 = min(p0 + SHARE_SHIFTS[at % 3], 0.999)
            change = p1 / p0 if event == more else (1 - p1) / (1 - p0)
            self.share_values[at] = (self.share_values[at] + 1) * change


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    differs=st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]),
    fails=seldom,
    drops=seldom,
    lingers=st.sampled_from([0.0, 0.6, 0.8]),
    busy=seldom,
)
def test_the_books_are_those_of_a_loop_over_images(
    seed: int, differs: float, fails: float, drops: float, lingers: float, busy: float
) -> None:
    """With audits dropped or late, outages, and images that could not be audited."""
    own = guard(FREQUENT, seed=seed)
    books = Books(own)
    for name, image in Driver(own, seed).run(Phase(150, 1, differs, fails, drops, lingers, busy)):
        if own.era:
            return
        books.see(name, image)
        state = own.snapshot()
        for bounds, weight in (
            (state.risk, books.weight),
            (state.disagreement, books.weight_of_left),
        ):
            assert (bounds.events, bounds.audits) == (books.events, books.audits)
            assert bounds.weight == pytest.approx(weight)
        assert [*state.risk_values] == pytest.approx(books.risk_values, rel=1e-7)
        assert [*state.share_values] == pytest.approx(books.share_values, rel=1e-7)


@pytest.mark.parametrize("drops", [0.0, 0.5])
@pytest.mark.parametrize("lingers", [0.0, 0.7])
def test_dropped_audits_change_no_share(drops: float, lingers: float) -> None:
    """Images that count for each audit: 1 / (rate x share that leaves), dropped audits or not."""
    own = guard(GuardSettings(risk=0.1, delta=0.1, audit=0.4))
    driver = Driver(own, seed=3)
    for _ in driver.run(Phase(20_000, 1, 0.1, drops=drops, lingers=lingers)):
        pass
    assert own.state.totals["bursts"] == 0
    risk, disagreement = own.state.risk, own.state.disagreement
    assert risk.audits > 1000
    images, rate, share = risk.weight / 0.4, 0.4, 0.6
    # Images from one audit to the next, of all and of those that leave, to four standard errors.
    for found, chance in ((images, rate * share), (disagreement.weight / rate, rate)):
        error = 4 * math.sqrt((1 - chance) / risk.audits)
        assert found / risk.audits == pytest.approx(1 / chance, rel=error)
    chance = rate * share * 0.1
    assert risk.events / images == pytest.approx(chance, rel=4 / math.sqrt(chance * images))


@pytest.mark.parametrize("seed", range(6))
def test_an_outage_is_not_a_change(seed: int) -> None:
    own = guard(GuardSettings(risk=0.1, delta=0.1, audit=0.2), seed=seed)
    driver = Driver(own, seed)
    counted: list[int] = []
    outage = Phase(300, 1, 0.1, fails=1, drops=1, lingers=0.5)
    for name, _ in driver.run(Phase(100, 1, 0.1), outage, Phase(600, 1, 0.1)):
        if name == "begin":
            counted.append(own.state.since)
    assert own.state.totals["bursts"] == 0
    # A few images fail or are dropped before an outage is known.
    assert counted[99] >= 95
    assert counted[399] - counted[99] <= 25
    assert own.state.since - counted[399] >= 590
    assert driver.calls["dropped"] + driver.calls["failed"] > 100


def test_nothing_counts_until_the_cloud_answers_again() -> None:
    own = guard(FREQUENT)
    own.failed(own.begin())
    values = [*own.snapshot().risk_values, *own.state.share_values]
    for _ in range(300):
        turn = own.begin()
        own.kept(turn)
        if turn.audit:
            own.dropped(offline=True)
        own.failed(own.begin())
    assert [*own.snapshot().risk_values, *own.state.share_values] == values
    own.sent(own.begin(), evidence(4))
    own.kept(own.begin())
    assert [*own.snapshot().share_values] != values[6:]


def test_a_late_result_from_before_a_burst_is_only_counted() -> None:
    own = guard(GuardSettings(risk=0.3, delta=0.3, audit=1))
    turns = [own.begin() for _ in range(60)]
    for turn in turns:
        own.kept(turn)
        if own.state.burst is not None:
            break
    assert own.state.totals["share_alarms"] == 1
    before = own.snapshot().risk_values
    for turn in turns[:10]:
        own.audited(turn, disagrees=True)
    own.sent(turns[-1], evidence(0))
    assert own.snapshot().risk_values == before
    assert own.state.totals["disagreements"] == 10
    assert own.state.totals["risk_alarms"] == own.state.disagreement.audits == 0
    assert own.state.burst is not None
    assert own.state.burst.images == 0


def test_audits_are_frequent_under_suspicion_of_the_share_and_rare_again_after_it() -> None:
    own = guard(GuardSettings(audit=0.02), reference=0.6)
    rates = []

    def stay() -> None:
        turn = own.begin()
        rates.append(turn.rate)
        own.sent(turn, evidence(4))

    until(lambda: own.suspects, stay)
    assert set(rates) == {0.02}
    assert np.mean(own.snapshot().share_values) > SHARE_SUSPICION
    assert own.begin().rate == SUSPICIOUS
    assert own.begin(can_audit=False).rate == 0
    until(lambda: not own.suspects, lambda: own.kept(own.begin(can_audit=False)))
    assert own.state.totals["bursts"] == 0
    assert own.begin().rate == 0.02


def test_audits_are_frequent_under_suspicion_of_the_risk_and_rare_again_after_it() -> None:
    own = guard(GuardSettings(risk=0.1, audit=0.1), reference=0.6)

    def meet(disagrees: bool) -> None:
        """Half of the images leave, and all audits have one result."""
        own.sent(own.begin(), evidence(4))
        turn = own.begin()
        own.kept(turn)
        if turn.audit:
            own.audited(turn, disagrees)

    until(lambda: own.suspects, lambda: meet(disagrees=True))
    assert np.mean(own.snapshot().risk_values) > RISK_SUSPICION
    assert own.begin().rate == SUSPICIOUS
    until(lambda: not own.suspects, lambda: meet(disagrees=False))
    assert own.state.totals["bursts"] == 0
    assert own.begin().rate == 0.1


@pytest.mark.parametrize(("audit", "rate"), [(0, 0), (0.02, 0.3), (0.3, 0.3), (0.6, 0.6)])
def test_suspicion_never_lowers_a_rate_and_without_audits_there_are_none(
    audit: float, rate: float
) -> None:
    own = guard(GuardSettings(audit=audit), reference=0.6)
    until(lambda: own.suspects, lambda: own.sent(own.begin(), evidence(4)))
    assert own.begin().rate == rate


def test_a_guard_that_knows_no_share_begins_with_a_burst() -> None:
    told: list[str] = []
    own = Guard(FREQUENT, VALUES, 2, None, tell=told.append)
    assert own.threshold is None
    assert told == [
        "guard: the share of images that leave is not known yet; offloads 12 images to fit the "
        "threshold anew"
    ]
    for image in range(12):
        turn = own.begin()
        assert (turn.offload_all, turn.audit, turn.rate) == (True, False, 0)
        # Two images in three leave by the fourth candidate; the last one loses half of them.
        own.sent(turn, evidence(3 if image % 3 else 4, differs=4 if image % 2 else CANDIDATES))
    assert own.threshold == VALUES[3]
    assert own.state.reference == pytest.approx(2 / 3)
    assert own.state.burst_risk == 0
    assert own.state.tolerance == pytest.approx(0.03 + 2 * (2 / 9 / 12) ** 0.5)
    assert "threshold 0.7 from now on; 67 % of the images stay, 0.0 %" in told[1]
    assert own.state.totals["risk_alarms"] == own.state.totals["share_alarms"] == 0


def test_a_burst_without_a_safe_candidate_offloads_everything_until_images_are_safe() -> None:
    own = guard(FREQUENT, reference=None)
    for _ in range(12):
        own.sent(own.begin(), evidence(0, differs=0))
    assert own.state.at == OFFLOAD_ALL
    assert own.threshold is None
    for _ in range(GAP + LOOK):
        turn = own.begin()
        assert turn.offload_all
        own.sent(turn, evidence(0, differs=0))
    assert own.state.totals["bursts"] == 1
    until(
        lambda: own.state.burst is not None,
        lambda: own.sent(own.begin(), evidence(0, differs=4)),
    )
    assert own.state.totals["bursts"] == 2
    assert (own.state.burst_size, own.state.gap) == (24, 2 * GAP)
    for _ in range(24):
        own.sent(own.begin(), evidence(0, differs=4))
    assert own.threshold == VALUES[3]


def test_bursts_without_an_alarm_grow_and_come_seldom() -> None:
    """Images that a bolder candidate would keep are never quite safe in a burst."""
    own = guard(FREQUENT, reference=None)
    bursts = []
    for image in range(30_000):
        if own.state.burst is not None:
            bursts += [(image, own.state.burst_size)] * (own.state.burst.images == 0)
            own.sent(own.begin(), evidence(0, differs=0))
        else:
            own.sent(own.begin(), evidence(0))
    sizes = [size for _, size in bursts]
    assert sizes[:4] == [12, 24, 48, 48]
    assert max(sizes) == 12 * LARGEST_BURST
    gaps = np.diff([image for image, _ in bursts])
    assert (gaps[1:] > 1.8 * gaps[:-1]).all()
    assert gaps[0] >= GAP


def test_an_alarm_makes_bursts_small_and_near_again() -> None:
    own = guard(FREQUENT)
    own.state.gap, own.state.burst_size = 8 * GAP, 48
    until(lambda: own.state.burst is not None, lambda: own.sent(own.begin(), evidence(4)))
    assert own.state.totals["share_alarms"] == 1
    assert (own.state.burst_size, own.state.gap) == (12, GAP)


@given(seed=st.integers(0, 1000), leaves=st.floats(0, 1), differs=st.floats(0, 0.5))
def test_a_refit_is_the_boldest_candidate_of_the_images_of_its_burst(
    seed: int, leaves: float, differs: float
) -> None:
    own = guard(FREQUENT, reference=None)
    burst = None
    for name, _ in Driver(own, seed).run(Phase(40, leaves, differs, fails=0.3, lingers=0.4)):
        if own.state.burst is not None:
            burst = own.state.burst
        elif burst is not None and name == "sent":
            assert burst.images == 12
            assert own.state.at == boldest(burst, 0.3, 0.3)
            expected = (0, 0) if own.state.at == OFFLOAD_ALL else burst.shares(own.state.at)
            assert (own.state.reference, own.state.burst_risk) == expected
            return
    assert own.state.burst is not None


def test_rare_audits_that_all_agree_lead_to_no_suspicion_and_no_alarm() -> None:
    """The values of the detector grow far beyond the usual limit there, by their very length."""
    watched = guard(GuardSettings(risk=0.001, delta=0.3, audit=0.02))
    for number in range(20_000):
        turn = watched.begin()
        if number % 5 < 3:
            watched.kept(turn)
            if turn.audit:
                watched.audited(turn, False)
        else:
            watched.sent(turn, evidence(CANDIDATES))
        assert not watched.suspects
    assert max(watched.snapshot().risk_values) > 3 * RISK_SUSPICION
    assert watched.state.totals["risk_alarms"] == 0

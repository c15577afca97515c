"""The guard: holds a promised risk when images change, by audits, alarms, bursts and refits.

The loss of an image is that it left on the edge although the cloud would answer otherwise. Labels
are not involved. While the guard watches, images leave by the threshold in force, and some of those
that left are audited. On an alarm the edge offloads everything for a burst, and the threshold is
fitted anew to the answers of the cloud.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from random import Random

from eenn.artifact.guard_settings import GuardSettings
from eenn.offload.adaptation.bounds import RunningBounds
from eenn.offload.adaptation.detectors import ALARM, RiskDetector, ShareDetector
from eenn.offload.adaptation.refit import Evidence, Tally, boldest, images_needed, losses_allowed
from eenn.offload.adaptation.state import GAP, OFFLOAD_ALL, GuardState, Pending, Turn

BURST = 3  # images of a burst after an alarm, in images that show the risk where none is lost
LARGEST_BURST = 4  # in bursts after an alarm
WINDOW = 500  # images that show whether a bolder threshold is worth another burst
NEWEST = 100  # images whose edge share is shown
LOOK = 20  # images between two looks at them
WORTH = 0.08  # share of images that has to stay more
PAYS_AFTER = 4000  # images within which the burst has to keep more images than it offloads
SAFETY = 0.9  # of the losses that the next burst allows
SUSPICIOUS = 0.3  # rate of audits under suspicion
RISK_SUSPICION, SHARE_SUSPICION = 1e3, 1e4  # values of the detectors, far below ALARM
QUIET_TIMES = 3  # or so many times the value that no disagreement leads to
TOLERANCE_OF_BURST = 0.03  # of the edge share, beside two standard errors


class Guard:
    """Decides about every image whether it may leave, and whether it is audited if it does.

    Not thread-safe. Every turn of `begin` ends with one of `kept`, `sent` and `failed`; an audited
    image that was kept has `audited` or `dropped` besides.

    Args:
        values: values of the knob, from the safest to the boldest.
        start: position of the deployment's own value.
        reference: share of images that leave by that value; None where it is not known, so that
            the guard begins with a burst.
        state: the state to go on from; None for a new one.
        tell: called with a line for the user at every alarm and refit.
        seed: of the draws of audits.
    """

    _risk: RiskDetector
    _share: ShareDetector
    _pending: Pending

    def __init__(
        self,
        settings: GuardSettings,
        values: Sequence[float],
        start: int,
        reference: float | None,
        state: GuardState | None = None,
        tell: Callable[[str], None] = lambda _: None,
        seed: int = 0,
    ) -> None:
        self.settings, self.values, self._tell = settings, values, tell
        self._smallest = BURST * images_needed(settings.risk, settings.delta)
        self.state = state or GuardState(start, reference)
        self.era = 0
        self.offline = False
        self._alarmed = ""
        self._random = Random(f"{seed} {self.state.totals['images']}")
        self._watch(self.state.risk_values, self.state.share_values)
        if self.state.reference is None and self.state.burst is None:
            self._burst(self._smallest, "the share of images that leave is not known yet")

    def begin(self, can_audit: bool = True) -> Turn:
        """Decide about the next image.

        Args:
            can_audit: whether an audit could be sent now.
        """
        state = self.state
        state.totals["images"] += 1
        offload_all = state.burst is not None or state.at == OFFLOAD_ALL
        rate = self._rate() if can_audit and not offload_all else 0.0
        audit = self._random.random() < rate
        counts = state.burst is None and not self.offline
        return Turn(self.era, offload_all, audit, rate, counts)

    def kept(self, turn: Turn) -> None:
        """Note that the image left on the edge."""
        self.state.totals["kept"] += 1
        if not self._is_current(turn):
            return
        if turn.audit:
            turn.before, self._pending = self._pending, Pending()
        else:
            self._pending.images[turn.rate] += 1
            self._pending.left[turn.rate] += 1
        self._count(leaves=True, evidence=None)

    def sent(self, turn: Turn, evidence: Evidence) -> None:
        """Note that the image was offloaded, and what every candidate would have done with it."""
        self.offline = False
        state = self.state
        if turn.era == self.era and state.burst is not None:
            state.burst.add(evidence)
            if state.burst.images >= state.burst_size:
                self._refit(state.burst)
        elif self._is_current(turn):
            self._pending.images[turn.rate] += 1
            self._count(leaves=False, evidence=evidence)

    def failed(self, turn: Turn) -> None:
        """Note that the image was to be offloaded, and the cloud did not answer."""
        self.offline = True
        if self._is_current(turn):
            self._pending.images[turn.rate] += 1
            self._count(leaves=False, evidence=None)

    def audited(self, turn: Turn, disagrees: bool) -> None:
        """Note the result of an audit."""
        self.offline = False
        state = self.state
        state.totals["audits"] += 1
        state.totals["disagreements"] += disagrees
        if not self._is_current(turn):
            return
        state.risk.count(disagrees, turn.rate, turn.before.images)
        state.disagreement.count(disagrees, turn.rate, turn.before.left)
        for rate, images in turn.before.images.items():
            if rate:
                self._risk.count_others(images, rate)
        self._risk.count_audit(disagrees, turn.rate)
        # With rare audits the detector can grow that far without any disagreement.
        if disagrees and self._risk.mean >= ALARM:
            found = state.disagreement
            self._alarm("risk", f"{found.events} of {found.audits} audited answers differ")

    def dropped(self, offline: bool) -> None:
        """Note that an audit has no result; the images before it do not count either.

        So the share of audits among the images that count stays the rate, whatever is dropped.

        Args:
            offline: whether the cloud could not be asked, so that the tests pause until it can.
        """
        self.state.totals["dropped_audits"] += 1
        self.offline = self.offline or offline

    def take_alarm(self) -> str:
        """Return the kind of the alarm since the last call, risk or share; empty without one."""
        alarm, self._alarmed = self._alarmed, ""
        return alarm

    def snapshot(self) -> GuardState:
        """Return the state with the present values of the detectors."""
        self.state.risk_values = tuple(self._risk.values)
        self.state.share_values = tuple(self._share.values)
        return self.state

    @property
    def threshold(self) -> float | None:
        """Return the value of the knob in force; None while no image may leave."""
        if self.state.burst is not None or self.state.at == OFFLOAD_ALL:
            return None
        return self.values[self.state.at]

    @property
    def newest_share(self) -> float:
        """Compute the share of the newest images that left; NaN before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else math.nan

    @property
    def suspects(self) -> bool:
        """Tell whether a change is suspected, so that audits are frequent."""
        return self._risk.mean > self._suspicious or self._share.mean > SHARE_SUSPICION

    def _is_current(self, turn: Turn) -> bool:
        return turn.counts and turn.era == self.era

    def _rate(self) -> float:
        """Choose the rate of audits; without audits there are none under suspicion either."""
        own = self.settings.audit
        return max(own, SUSPICIOUS) if own and self.suspects else own

    def _count(self, leaves: bool, evidence: Evidence | None) -> None:
        """Count an image in the monitor of the edge share and in the window."""
        state = self.state
        state.since += 1
        self._recent.append(leaves)
        self._window.append(evidence)
        if evidence is not None:
            self._newest.add(evidence)
        if len(self._window) > WINDOW:
            oldest = self._window.popleft()
            if oldest is not None:
                self._newest.drop(oldest)
        if state.at != OFFLOAD_ALL:
            self._share.count(leaves)
            if self._share.mean >= ALARM:
                expected = f"{100 * (state.reference or 0):.0f} % expected"
                return self._alarm(
                    "share",
                    f"{100 * self.newest_share:.0f} % of the newest images left, {expected}",
                )
        if state.burst_size and state.since >= state.gap and state.since % LOOK == 0:
            self._relax()
        return None

    def _alarm(self, kind: str, reason: str) -> None:
        self.state.totals[f"{kind}_alarms"] += 1
        self._alarmed = kind
        self.state.gap = GAP
        self._burst(self._smallest, f"alarm: {reason}")

    def _relax(self) -> None:
        """Begin a burst if offloaded images show that a bolder threshold would pass its test."""
        state, settings = self.state, self.settings
        size = min(2 * state.burst_size, LARGEST_BURST * self._smallest)
        allowed = SAFETY * losses_allowed(size, settings.risk, settings.delta) / size
        bolder = slice(state.at + 1, None)
        safe = state.burst_risk + self._newest.differs[bolder] / WINDOW <= allowed
        worth = self._newest.leaves[bolder] / WINDOW >= max(
            WORTH, size * (state.reference or 0) / PAYS_AFTER
        )
        if (safe & worth).any():
            state.gap *= 2
            self._burst(size, "a bolder threshold may be safe")

    def _burst(self, size: int, reason: str) -> None:
        """Begin to offload everything until the cloud has answered `size` images."""
        self._tell(f"guard: {reason}; offloads {size} images to fit the threshold anew")
        self.era += 1
        self.state.totals["bursts"] += 1
        self.state.burst, self.state.burst_size = Tally.empty(len(self.values)), size

    def _refit(self, burst: Tally) -> None:
        """End the burst: fit the threshold to it, and watch anew."""
        state, settings = self.state, self.settings
        self.era += 1
        state.at = boldest(burst, settings.risk, settings.delta)
        kept = lost = 0.0
        if state.at != OFFLOAD_ALL:
            kept, lost = burst.shares(state.at)
        state.reference, state.burst_risk = kept, lost
        state.tolerance = TOLERANCE_OF_BURST + 2 * math.sqrt(kept * (1 - kept) / burst.images)
        state.burst, state.since = None, 0
        state.risk, state.disagreement = RunningBounds(), RunningBounds()
        self._watch()
        found = self.threshold
        self._tell(
            f"guard: {burst.images} images show no safe threshold; offloads everything"
            if found is None
            else f"guard: threshold {found:g} from now on; {100 * kept:.0f} % of the images stay, "
            f"{100 * lost:.1f} % with another answer than the cloud's"
        )

    def _watch(self, risk_values: Sequence[float] = (), share_values: Sequence[float] = ()) -> None:
        """Make the detectors, the pending audits and the window as before the first image."""
        state = self.state
        self._risk = RiskDetector(self.settings.risk, risk_values)
        audit = self.settings.audit
        quiet = self._risk.quiet(audit) if audit else 0.0
        self._suspicious = max(RISK_SUSPICION, QUIET_TIMES * quiet)
        self._share = ShareDetector(state.reference or 0.0, state.tolerance, share_values)
        self._pending = Pending()
        self._newest = Tally.empty(len(self.values))
        self._window: deque[Evidence | None] = deque()
        self._recent: deque[bool] = deque(maxlen=NEWEST)

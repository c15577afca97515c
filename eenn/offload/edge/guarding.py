"""The guard at work on an edge: its turn for every image, its audits, and its state on disk."""

import copy
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eenn.artifact.deployment import Deployment
from eenn.artifact.manifest import Manifest
from eenn.errors import EennError
from eenn.exits.policies.base import Policy
from eenn.files import Json
from eenn.offload.adaptation.field_log import AGREES, DIFFERS, DROPPED
from eenn.offload.adaptation.guard import Guard
from eenn.offload.adaptation.offload_all import OffloadAll
from eenn.offload.adaptation.refit import Candidates
from eenn.offload.adaptation.state import Turn
from eenn.offload.adaptation.state_file import FILE, StateFile
from eenn.offload.adaptation.status import BURST, state_of, status
from eenn.offload.client.http_cloud import Exchange, HttpCloud
from eenn.offload.edge.audits import Audit, Audited, Audits
from eenn.offload.edge.batch import Batch
from eenn.offload.edge.kept_audits import KeptAudits
from eenn.offload.edge.kinds import Kinds, open_kinds
from eenn.offload.edge.runtime import EdgeRuntime

Floats = NDArray[np.float32]

BLIND = 20  # audits in a row without a result, of which a line tells


@dataclass(frozen=True)
class Guarded:
    """The guard's decision about an image, and what came of it.

    Args:
        knob, state, threshold: as of `status`, before the image was seen.
        reference: share of images that is expected to leave; None if not known.
        audit: the result of the image's audit: AGREES, DIFFERS or DROPPED; None without one.
        agrees: whether the last active branch's answer is the cloud's, where the cloud answered.
        alarm: kind of the alarm that the image led to, or empty.
        exchange: about the audit; None without one.
        looks_like: the head set that the distortion classifier finds for the image; None where it
            was not asked.
    """

    turn: Turn
    policy: Policy
    knob: str
    state: str
    threshold: float | None
    reference: float | None
    audit: str | None = None
    agrees: bool | None = None
    alarm: str = ""
    exchange: Exchange | None = None
    looks_like: str | None = None


class _Left(NamedTuple):
    """An image that left on the edge: the edge's answer, the image, (1, 3, H, W), and its file."""

    label: int
    image: Floats
    photograph: bytes


class Guarding:
    """Lets a guard decide about the images of a runtime. Thread-safe.

    Use it in a `with` block, which keeps the state on disk.

    Args:
        cloud, sends_photographs: see `Audits`.
        say: called with a line for the user.
        kept: where photographs of audits are kept; None where they are not.
        kinds: judges images of audits and bursts; None where nobody does.
    """

    def __init__(
        self,
        runtime: EdgeRuntime,
        guard: Guard,
        candidates: Candidates,
        cloud: HttpCloud,
        sends_photographs: bool,
        file: StateFile,
        say: Callable[[str], None],
        kept: KeptAudits | None = None,
        kinds: Kinds | None = None,
    ) -> None:
        self._kept, self._kinds, self._classes = kept, kinds, runtime.manifest.classes
        self._guard, self._candidates, self._file, self._say = guard, candidates, file, say
        self._cloud_exit = runtime.branches
        self._offload_all = OffloadAll(own=runtime.policy, last_exit=runtime.branches)
        self._lock, self._saving = threading.Lock(), threading.Lock()
        self._said, self._retired, self._lost = False, False, 0
        self._audits = Audits(runtime, cloud, sends_photographs, self.save)

    def __enter__(self) -> "Guarding":
        self._audits.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._audits.__exit__(*exception)

    def begin(self) -> Guarded:
        """Decide about the next image."""
        with self._lock:
            guard = self._guard
            state, threshold = state_of(guard), guard.threshold
            turn = guard.begin(self._audits.has_room)
            at = self._candidates.policies[guard.state.at]
            policy = self._offload_all if turn.offload_all else at
            knob, reference = self._candidates.knob, guard.state.reference
            return Guarded(turn, policy, knob, state, threshold, reference)

    def asking(self) -> AbstractContextManager[None]:
        """Return a context in which an answer uses the link."""
        return self._audits.yielding()

    def answered(self, guarded: Guarded, batch: Batch, note: Callable[[Guarded], None]) -> None:
        """Take note of an image's answer.

        Args:
            note: called with what came of the image, once its audit, if any, has a result.
        """
        turn, newest = guarded.turn, batch.seen[-1]
        with self._lock:
            if batch.failure:
                self._guard.failed(turn)
            elif newest.exit == self._cloud_exit:
                label = int(newest.prediction[0])
                *branches, _ = batch.seen
                self._guard.sent(turn, self._candidates.evidence(branches, label))
                guarded = replace(guarded, agrees=bool(branches[-1].prediction[0] == label))
            else:
                self._guard.kept(turn)
            alarm = self._take_alarm()
        guarded = replace(guarded, alarm=alarm)
        if batch.failure or newest.exit == self._cloud_exit or not turn.audit:
            judging = partial(self._judged, guarded, batch.images, note)
            is_judged = self._kinds is not None and guarded.state == BURST
            if not (is_judged and self._audits.do_if_idle(judging)):
                note(guarded)
            return None
        label = int(batch.policy.answer(batch.seen).label[0])
        needs_photograph = self._audits.sends_photographs or self._kept is not None
        try:
            photograph = batch.photographs()[0] if needs_photograph else b""
        except OSError:  # the file is gone, and the image has its answer
            return self._audited(guarded, _Left(label, batch.images, b""), note, Audited(None))
        done = partial(self._audited, guarded, _Left(label, batch.images, photograph), note)
        self._audits.begin(Audit(batch.features, newest.exit, batch.heads, photograph, done))
        return None

    def status(self) -> dict[str, Json]:
        """Describe the guard, see `eenn.offload.adaptation.status.status`.

        `looks_like` has the shares of head sets that suit the images judged since the last alarm.
        """
        with self._lock:
            found = status(self._guard, self._candidates.knob)
        return {**found, "looks_like": None if self._kinds is None else self._kinds.shares()}

    def retire(self) -> None:
        """Write the state no more, because another guard goes on from it."""
        with self._saving:
            self._retired = True

    def save(self) -> None:
        """Write the state; a full disk is reported once, and does not end the program."""
        try:
            with self._saving:
                if self._retired:
                    return
                with self._lock:
                    state = copy.deepcopy(self._guard.snapshot())
                self._file.save(state)
            self._said = False
        except OSError as error:
            if not self._said:
                self._say(
                    f"warning: {self._file.path} cannot be written ({error.strerror}); a restarted "
                    "guard would begin from its older state"
                )
            self._said = True

    def _audited(
        self,
        guarded: Guarded,
        left: _Left,
        note: Callable[[Guarded], None],
        audited: Audited,
    ) -> None:
        with self._lock:
            self._lost = self._lost + 1 if audited.label is None else 0
            if self._lost == BLIND:
                self._say(
                    f"guard: the newest {BLIND} audits have no result, so that only the share of "
                    "images that leave is watched"
                )
            if audited.label is None:
                self._guard.dropped(audited.offline)
                audit = DROPPED
            else:
                differs = audited.label != left.label
                self._guard.audited(guarded.turn, differs)
                audit = DIFFERS if differs else AGREES
            alarm = guarded.alarm or self._take_alarm()
        guarded = replace(guarded, audit=audit, alarm=alarm, exchange=audited.exchange)
        if audited.label is None:
            return note(guarded)
        if self._kept is not None:
            self._kept.keep(left.photograph, audit, self._classes[audited.label])
        return self._judged(guarded, left.image, note)

    def _judged(self, guarded: Guarded, image: Floats, note: Callable[[Guarded], None]) -> None:
        """Note an image, with the kind that it looks like."""
        kind = None if self._kinds is None else self._kinds.judge(image)
        note(replace(guarded, looks_like=kind))

    def _take_alarm(self) -> str:
        alarm = self._guard.take_alarm()
        if alarm and self._kinds is not None:
            self._kinds.restart()
        return alarm


@contextmanager
def open_guarding(
    manifest: Manifest,
    deployment: Deployment,
    runtime: EdgeRuntime,
    cloud: HttpCloud,
    path: Path | None,
    say: Callable[[str], None],
    kept: KeptAudits | None = None,
) -> Iterator[Guarding]:
    """Open the guard of a deployment.

    Args:
        cloud: by a client in the background.
        path: file of the state; None for FILE in the artifact's folder.
        kept: see `Guarding`.

    Raises:
        EennError: the policy cannot be refitted, the state is damaged or cannot be written, or a
            class cannot name a folder of kept audits; see also `open_kinds`.
    """
    assert deployment.guard is not None
    if kept is not None:
        kept.check_classes(manifest.classes)
    candidates = Candidates(deployment.policy, deployment.active)
    path = path or manifest.path / FILE
    file = StateFile(path, _guarded(deployment), len(candidates))
    reference = deployment.promised_edge_share
    state = file.load()
    if state is not None:
        say(f"guard: goes on from {path}, after {state.totals['images']} images")
    guard = Guard(
        deployment.guard, candidates.values, candidates.start, reference, state, say,
        # Devices that draw alike would send their audits at the same time.
        seed=SystemRandom().getrandbits(32),
    )  # fmt: skip
    try:
        file.save(guard.snapshot())
    except OSError as error:
        raise EennError(
            f"the guard cannot keep its state in {path}: {error.strerror}; give --guard-state FILE"
        ) from error
    kinds, photographs = open_kinds(manifest, deployment, say), deployment.features is None
    with Guarding(
        runtime, guard, candidates, cloud, photographs, file, say, kept, kinds
    ) as guarding:
        yield guarding


def _guarded(deployment: Deployment) -> dict[str, Json]:
    """List the settings that a state holds for."""
    upstream = deployment.upstream
    return {
        "artifact_id": deployment.artifact_id,
        "guard": None if deployment.guard is None else asdict(deployment.guard),
        "policy": json.loads(deployment.policy.to_json()),
        "active": [branch + 1 for branch in deployment.active],
        "temperature": deployment.temperature,
        "experts": str(deployment.experts),
        "precision": deployment.precision,
        "payload": deployment.payload,
        "upstream": None if upstream is None else upstream.artifact_id,
    }

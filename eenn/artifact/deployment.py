"""The deployment file: the use of an artifact by a device, and the promised accuracy and costs.

A fit writes the file, people may edit it, and evaluation, edge and benchmark decide by it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from eenn.artifact.guard_settings import GuardSettings
from eenn.artifact.manifest import Manifest
from eenn.errors import EennError, require_numbers
from eenn.exits.decide import check_active
from eenn.exits.head_sets import PLAIN_HEADS, HeadChoice
from eenn.exits.policies.base import Policy
from eenn.exits.policies.registry import policy_from_json
from eenn.exits.rests import CLOUD, NOBODY, PHOTOGRAPH, RESTS
from eenn.exits.settings import Setting
from eenn.files import Json, JsonObject, from_json, read_small_json, write_json
from eenn.offload.protocol.codecs import PAYLOADS as FEATURES
from eenn.programs import EVALUATE
from eenn.statistics.calibration import CHOICES

FILE = "deployment.json"
VERSION = 1
# A deployment takes some 2 kB.
MAX_BYTES = 2**20
DEADLINE_MS = 500.0
PAYLOADS = (*FEATURES, PHOTOGRAPH)
ANSWER, CONTINUE = "answer", "continue"
ON_FAILURE = (ANSWER, CONTINUE)


@dataclass(frozen=True)
class Promise:
    """The measured results of a deployment on the images that it was fitted to.

    Args:
        images: the images, in words; `n` is their number.
        goal: the goal of the fit, in words.
        means: by name (`accuracy`, or `same_as_last` of a fit without labels; `edge_probability`,
            `macs`, `latency_ms`, `sent_bytes`) a quantity and the ends of its 95 % interval.
        bandwidth_mbps, rtt_ms: of the link that latency is modelled for.
    """

    images: str
    n: int
    goal: str
    means: dict[str, tuple[float, float, float]]
    bandwidth_mbps: float
    rtt_ms: float

    def __str__(self) -> str:
        parts = [_printed(name, *self.means[name]) for name in _PRINTED if name in self.means]
        return f"on {self.images} ({self.n}): {', '.join(parts)}"


@dataclass(frozen=True)
class Upstream:
    """An upstream network: its last exit answers images that the artifact passes on; same classes.

    Args:
        temperature: of the upstream network's last exit.
    """

    artifact_id: str
    temperature: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise EennError(
                f"upstream.temperature={self.temperature:g}: allowed is a number above 0"
            )

    def __str__(self) -> str:
        return f"artifact {self.artifact_id:.12}"


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """The settings by which a device uses an artifact.

    Args:
        artifact_id: of the artifact that the deployment is for.
        active: the branches that the device evaluates, counted from 0, ascending; the network is
            cut after the last of them, or after `cut`. With `upstream` the artifact's last exit
            counts as a branch.
        temperature: `per_exit`, `shared` or `none`.
        precision: of the device's graphs.
        rest: where images that no active branch accepts are answered: in the `cloud`, on this
            `device`, or by `nobody`, which leaves the answer to the last active branch.
        payload: the content sent to the cloud: features in a format, or the `photograph`'s file.
        cut: number of blocks on the device where it computes on behind the last active branch
            before it sends features; None where it does not.
        upstream: a network that starts from the photograph in place of the artifact's own rest (a
            cascade).
        deadline_ms: time limit for an answer.
        on_failure: reaction when the cloud fails or is late: `answer` from the branches, or
            `continue` with the rest of the network on the device if time allows.
        promise: measured results; None where nothing was measured.
        guard: settings of the guard against drift; None without a guard.

    Raises:
        EennError: a value is not allowed.
    """

    artifact_id: str
    policy: Policy
    active: tuple[int, ...]
    temperature: str = "per_exit"
    experts: HeadChoice = PLAIN_HEADS
    precision: str = "fp32"
    rest: str = CLOUD
    payload: str = "fp32"
    cut: int | None = None
    upstream: Upstream | None = None
    deadline_ms: float = DEADLINE_MS
    on_failure: str = ANSWER
    promise: Promise | None = None
    guard: GuardSettings | None = None

    def __post_init__(self) -> None:
        require_numbers(deadline_ms=self.deadline_ms)
        if not 0 < self.deadline_ms < math.inf:
            raise EennError(f"deadline_ms={self.deadline_ms:g}: allowed is a number above 0")
        for name, value, allowed in (
            ("temperature", self.temperature, CHOICES),
            ("rest", self.rest, RESTS),
            ("payload", self.payload, PAYLOADS),
            ("on_failure", self.on_failure, ON_FAILURE),
        ):
            if value not in allowed:
                raise EennError(f"{name}={value}: allowed are {', '.join(allowed)}")
        if self.upstream and self.rest == CLOUD and self.payload != PHOTOGRAPH:
            raise EennError(
                f"payload={self.payload} with an upstream network in the cloud; allowed is "
                f"{PHOTOGRAPH}, as features of one network mean nothing to another"
            )
        if self.cut is not None and (self.rest != CLOUD or self.features is None):
            raise EennError(
                f"cut={self.cut} with rest={self.rest} and payload={self.payload}: a cut is where "
                f"features are sent to a cloud; set rest to {CLOUD} and payload to one of "
                f"{', '.join(FEATURES)}, or leave the cut out"
            )
        share = self.promised_edge_share
        if share is not None and not 0 <= share <= 1:
            raise EennError(f"promise: edge_probability={share:g}: allowed is a share, 0 to 1")
        if self.guard is not None and self.rest != CLOUD:
            raise EennError(
                f"guard with rest={self.rest}: the guard compares answers with those of a cloud; "
                f"set rest to {CLOUD}, or leave the guard out"
            )
        if self.rest == NOBODY and not self.active:
            raise EennError(
                f"rest={NOBODY} without an active branch: no exit answers; activate a branch, or "
                f"set rest to {CLOUD}"
            )

    @property
    def setting(self) -> Setting:
        """Return the policy and the active branches as one setting."""
        return Setting(self.policy, self.active)

    @property
    def features(self) -> str | None:
        """Return the format of features sent to the cloud; None where photographs are sent."""
        return self.payload if self.payload in FEATURES else None

    @property
    def promised_edge_share(self) -> float | None:
        """Return the promised share of images answered on the edge; None if it was not measured."""
        means = self.promise.means if self.promise else {}
        return means["edge_probability"][0] if "edge_probability" in means else None

    def check(self, manifest: Manifest) -> None:
        """Check that the deployment fits an artifact.

        Raises:
            EennError: the deployment was made for another artifact, or does not fit the network.
        """
        if self.artifact_id != manifest.id:
            raise EennError(
                f"the deployment is for artifact {self.artifact_id:.12} and {manifest.path} is "
                f"{manifest.id:.12}; use the artifact it was fitted for, or fit this one with "
                f"`{EVALUATE.command} artifact=DIR fit.goal=accuracy_drop fit.limit=0.01`"
            )
        branches = self.branches(len(manifest.exits))
        check_active(self.active, branches)
        self.policy.check(branches)

    def branches(self, exits: int) -> int:
        """Count the exits that may be active: with an upstream network all, else the branches.

        Args:
            exits: number of the artifact's exits.
        """
        return exits if self.upstream else exits - 1

    def to_json(self) -> dict[str, Json]:
        """Lay the deployment out as a JSON object; branches are counted from 1 there."""
        return {
            "version": VERSION,
            "artifact_id": self.artifact_id,
            "policy": json.loads(self.policy.to_json()),
            "active": [branch + 1 for branch in self.active],
            "temperature": self.temperature,
            "experts": str(self.experts),
            "precision": self.precision,
            "rest": self.rest,
            "payload": self.payload,
            "cut": self.cut,
            "upstream": None if self.upstream is None else asdict(self.upstream),
            "deadline_ms": self.deadline_ms,
            "on_failure": self.on_failure,
            "promise": None if self.promise is None else asdict(self.promise),
            "guard": None if self.guard is None else asdict(self.guard),
        }

    @classmethod
    def from_json(cls, content: Json) -> "Deployment":
        """Make the deployment that `to_json` laid out.

        Raises:
            ValueError, EennError: the content is not a deployment.
        """
        if not isinstance(content, Mapping):
            raise ValueError("it is not a JSON object")
        try:
            return _read(content)
        except ValueError as error:
            said = str(error).replace(f"{_Stored.__name__}.", "").replace(_Stored.__name__, "it")
            raise ValueError(said) from error

    def save(self, path: Path) -> None:
        """Write the deployment as readable JSON."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> "Deployment":
        """Read a deployment from a file.

        Raises:
            EennError: the file is not a deployment, or is for a later version of this program.
        """
        try:
            return cls.from_json(read_small_json(path, MAX_BYTES))
        except (ValueError, EennError) as error:
            raise EennError(
                f"{path} is not a deployment: {error}; take one that `{EVALUATE.command} "
                "fit.goal=...` wrote"
            ) from error
        except OSError as error:
            raise EennError(f"{path}: {error.strerror}; give a {FILE}") from error


@dataclass(frozen=True)
class _Stored:
    """The content of the file beside the policy; branches are counted from 1.

    Fields that a file written by hand leaves out have the defaults of `Deployment`.
    """

    version: int
    artifact_id: str
    active: tuple[int, ...]
    temperature: str = Deployment.temperature
    experts: str = str(Deployment.experts)
    precision: str = Deployment.precision
    rest: str = Deployment.rest
    payload: str = Deployment.payload
    cut: int | None = None
    upstream: Upstream | None = None
    deadline_ms: float = DEADLINE_MS
    on_failure: str = Deployment.on_failure
    promise: Promise | None = None
    guard: GuardSettings | None = None


def _read(content: JsonObject) -> Deployment:
    known = ("policy", *_Stored.__dataclass_fields__)
    if content.get("version") != VERSION:
        raise ValueError(f"version is {content.get('version')!r:.20}; allowed is {VERSION}")
    if unknown := [key for key in content if key not in known]:
        raise ValueError(f"{', '.join(unknown):.80}: allowed are {', '.join(known)}")
    guard, of_guard = content.get("guard"), GuardSettings.__dataclass_fields__
    if isinstance(guard, Mapping) and (unknown := [key for key in guard if key not in of_guard]):
        raise ValueError(f"guard has {', '.join(unknown):.80}: allowed are {', '.join(of_guard)}")
    stored = from_json(_Stored, content)
    return Deployment(
        artifact_id=stored.artifact_id,
        policy=policy_from_json(json.dumps(content.get("policy"))),
        active=tuple(branch - 1 for branch in stored.active),
        temperature=stored.temperature,
        experts=HeadChoice.named(stored.experts),
        precision=stored.precision,
        rest=stored.rest,
        payload=stored.payload,
        cut=stored.cut,
        upstream=stored.upstream,
        deadline_ms=stored.deadline_ms,
        on_failure=stored.on_failure,
        promise=stored.promise,
        guard=stored.guard,
    )


# Quantities that a promise prints: their words, the factor of their unit, and the unit.
_PRINTED = {
    "accuracy": ("accuracy", 100, " %"),
    "same_as_last": ("as the last exit", 100, " %"),
    "edge_probability": ("on the edge", 100, " %"),
    "macs": ("MMACs", 1e-6, ""),
    "latency_ms": ("latency", 1, " ms"),
    "sent_bytes": ("sent", 1e-3, " kB"),
}


def _printed(name: str, *ends: float) -> str:
    words, factor, unit = _PRINTED[name]
    value, low, high = (f"{factor * end:.1f}" for end in ends)
    return f"{words} {value} ({low}-{high}){unit}"

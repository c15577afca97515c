"""The settings of evaluations and benchmarks, with their types: a tree for each primary file.

Ranges are checked by the functions and classes that take the values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

from eenn.artifact.guard_settings import GuardSettings
from eenn.cli import setting_text
from eenn.data.distortions import DISTORTIONS, Distortion
from eenn.errors import EennError
from eenn.exits.rests import CLOUD, DEVICE
from eenn.planning.costs import Link
from eenn.run_directory import LATEST
from eenn.workflows.check import Arguments, whole
from eenn.workflows.fit_settings import FitSettings
from eenn.workflows.settings import check_builds, check_logger

T = TypeVar("T")
# Hints at a likely intention behind a value of another type.
_SETS = (
    "active=[3] is branch 3 alone, first=3 the first three, active_sets=[[1],[1,3]] several sets"
)
_THRESHOLDS = "one threshold per exit is thresholds=[0.9,0.8,0.7]"


@dataclass(frozen=True)
class DistortionSettings:
    """One kind of distortion at one level or several."""

    kind: str
    level: float | tuple[float, ...]

    def __post_init__(self) -> None:
        for level in self.levels:
            Distortion(self.kind, level)

    @property
    def levels(self) -> tuple[float, ...]:
        """List the levels, also where it is one."""
        return several(self.level)


@dataclass(frozen=True)
class SegmentSettings:
    """A part of a stream: photographs with one kind of distortion at one level.

    Args:
        images: number of photographs.
        kind: of the distortion; None for none.
    """

    images: int
    kind: str | None = None
    level: float = 0

    def __post_init__(self) -> None:
        if self.images < 1:
            raise EennError(f"stream: images={self.images}: allowed is 1 or more")
        if self.kind is None and self.level:
            raise EennError(
                f"stream: level={self.level:g} without a kind: give one of {', '.join(DISTORTIONS)}"
            )
        assert self.distortion  # which checks kind and level

    @property
    def distortion(self) -> Distortion:
        """Return the distortion, at level 0 where there is none."""
        return Distortion(self.kind or next(iter(DISTORTIONS)), self.level)


# Settings that choose active branches.
_CHOICES = ("active", "active_sets", "first")


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """Settings that an evaluation and an offloading benchmark share.

    Args:
        thresholds: one per exit, instead of the grid of `p_tar`.
        active, active_sets, first: the branches in use, counted from 1: one set, a grid of sets, or
            a number of first ones; at most one of the three is given.
        build: see `check_builds`.
        compare: names of further policies.
        policy: its `name` and settings.
    """

    name: str
    images: str | None
    split: str
    p_tar: Annotated[float | tuple[float, ...], _THRESHOLDS]
    thresholds: tuple[float, ...] | None
    active: Annotated[tuple[int, ...] | None, _SETS]
    active_sets: tuple[tuple[int, ...], ...] | None
    first: int | None
    compare: str | tuple[str, ...]
    policy: Arguments
    link: Link
    logger: Arguments
    build: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_logger(self.logger)
        check_builds(self.build)
        if not isinstance(self.policy.get("name"), str):
            raise EennError("policy.name: allowed is the name of a policy; see conf/policy/")
        if len(given := self._branches_given()) > 1:
            raise EennError(f"{' '.join(given)}: allowed is one of them; leave the others out")

    def _branches_given(self) -> list[str]:
        """List the settings that choose active branches, as users do."""
        chosen = {name: getattr(self, name) for name in _CHOICES}
        return [f"{k}={setting_text(v)}" for k, v in chosen.items() if v is not None]

    def _given(self, *names: str) -> list[str]:
        """List those of the settings that have another value than their default, as users do."""
        found = {name: getattr(self, name) for name in names}
        unset = (None, (), LATEST)
        return [f"{k}={setting_text(v)}" for k, v in found.items() if v not in unset]


@whole
@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(_Measured):
    """The settings of `evaluate.py`, conf/evaluate.yaml.

    Args:
        deployment: a file, or several to be compared, in place of policy, branches and all else
            that it holds.
        distortion: or else `distortions`, levels by kind, with a list of `experts`.
        artifacts: of a frontier over several networks, in place of `artifact`.
        rest: of a frontier, the place of the rest; None tries device and cloud.
        field: a field log or several, in place of everything else.
    """

    artifact: str | tuple[str, ...]
    artifacts: tuple[str, ...] | None
    rest: str | None
    deployment: str | tuple[str, ...] | None
    upstream: str | None
    temperature: str
    experts: str | tuple[str, ...]
    distortion: DistortionSettings | None
    distortions: Mapping[str, tuple[float, ...]] | None
    fit: FitSettings
    deadline_ms: float
    batch_size: int
    field: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.distortion is None) is (self.distortions is None):
            raise EennError(
                "distortion and distortions: allowed is one of them, the other is null; "
                "distortions are levels by kind, as in distortions={jpeg:[50,20]} distortion=null"
            )
        if self.distortions is None and not isinstance(self.experts, str):
            raise EennError(
                f"experts={setting_text(self.experts)}: allowed is one of them; a list goes with "
                "distortions"
            )
        if self.distortions is not None and (isinstance(self.experts, str) or not self.experts):
            raise EennError(
                f"experts={setting_text(self.experts)}: with distortions allowed is a list of "
                "experts"
            )
        self._check_search()
        self._check_field()
        self._check_deployment()
        self._check_frontier()
        for kind, levels in self.levels_of_kind.items():
            for level in levels:
                Distortion(kind, level)

    def _check_search(self) -> None:
        """Check that nothing else chooses the branches where a fit searches for them."""
        given = [*self._given("artifacts"), *self._branches_given()]
        if self.fit.active is not None and given:
            raise EennError(
                f"fit.active={self.fit.active} with {' '.join(given)}: the search chooses among "
                "all sets of branches of a network; leave the others out"
            )

    def _check_deployment(self) -> None:
        """Check that no setting is given that a deployment holds, as far as this can be told."""
        if self.deployment is None:
            return
        held = (*_CHOICES, "thresholds", "distortions", "compare")
        if given := self._given(*held):
            raise EennError(
                f"deployment with {' '.join(given)}: allowed is one kind of distortion, and "
                "settings that the file does not hold; leave the others out"
            )

    def _check_frontier(self) -> None:
        """Check that a frontier over several networks is given only what it uses."""
        if self.artifacts is None:
            if self.rest is not None:
                raise EennError(f"rest={self.rest} without artifacts: give artifacts=[DIR,DIR]")
            return
        if self.rest not in (None, DEVICE, CLOUD):
            raise EennError(f"rest={self.rest}: allowed are {DEVICE}, {CLOUD} or null")
        left_out = (
            *("artifact", "upstream", "deployment", "thresholds", "distortions"),
            *_CHOICES,
        )
        if given := self._given(*left_out):
            raise EennError(
                f"artifacts with {' '.join(given)}: a frontier tries cascades, branches and "
                "thresholds itself; leave the others out"
            )

    def _check_field(self) -> None:
        """Check that field logs are given without settings that they hold or have no use for."""
        if self.field is None:
            return
        left_out = (
            *("artifact", "artifacts", "rest", "deployment", "upstream", "images", "build"),
            *_CHOICES,
            *("thresholds", "distortions", "compare"),
        )
        given = self._given(*left_out)
        if self.fit.goal is not None:
            given.append(f"fit.goal={self.fit.goal}")
        if given:
            raise EennError(
                f"field with {' '.join(given)}: a field log is reported on as it is, without "
                "networks or images; leave the others out"
            )

    @property
    def levels_of_kind(self) -> Mapping[str, tuple[float, ...]]:
        """Map kinds of distortion to their levels; `distortion` is one kind."""
        if self.distortion is not None:
            return {self.distortion.kind: self.distortion.levels}
        return self.distortions or {}


@dataclass(frozen=True)
class EdgeSettings:
    """The device of an offloading benchmark."""

    precision: str
    slowdown: float


@dataclass(frozen=True)
class CloudSettings:
    """The cloud of an offloading benchmark."""

    url: str | None
    token_file: str | None
    ca_file: str | None
    slowdown: float


@dataclass(frozen=True)
class PlanSettings:
    """The limits that the best plan has to keep, and the planners that it is compared with."""

    min_accuracy: float | None
    deadline_ms: float | None
    compare: str | tuple[str, ...]
    watts: tuple[float, ...] | None
    frames_per_s: float | None


@whole
@dataclass(frozen=True, kw_only=True)
class OffloadSettings(_Measured):
    """The settings of `offload_bench.py`, conf/offload_bench.yaml.

    Args:
        deployment: a file, or several to be compared, in place of policy, branches and all else
            that it holds.
        stream: photographs that go through a guarded edge in this order, in place of all else that
            is measured.
        seed: of the photographs of the stream.
    """

    artifact: str
    deployment: str | tuple[str, ...] | None
    guard: GuardSettings | None
    stream: tuple[SegmentSettings, ...] | None
    seed: int
    conventional: str | None
    upstream: str | None
    resume: str | None
    limit: int | None
    experts: str
    distortion: DistortionSettings
    payload: str
    compress: bool
    upload: str
    deadline_ms: float | None
    edge: EdgeSettings
    cloud: CloudSettings
    plan: PlanSettings

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.stream is None) is not (self.guard is None):
            raise EennError(
                "stream and guard: allowed are both or none of them; experiment=drift has both"
            )
        if self.stream is None:
            return
        if not self.stream:
            raise EennError("stream=[]: allowed is a list of segments, as in experiment=drift")
        given = self._given("conventional", "upstream", "thresholds", "active_sets", "compare")
        beside = {
            "compress": self.compress or None,
            "cloud.url": self.cloud.url,
            "distortion.level": self.distortion.level if any(self.distortion.levels) else None,
            "edge.slowdown": None if self.edge.slowdown == 1 else self.edge.slowdown,
        }
        given += [f"{k}={setting_text(v)}" for k, v in beside.items() if v is not None]
        if not isinstance(self.deployment, str | None):
            given.append("a list of deployments")
        if given:
            raise EennError(
                f"stream with {' '.join(given)}: a stream goes through one edge and a cloud that "
                "the benchmark starts; leave the others out"
            )


def several(value: T | tuple[T, ...]) -> tuple[T, ...]:
    """Turn a setting that is one value or a list of values into a tuple."""
    return value if isinstance(value, tuple) else (value,)

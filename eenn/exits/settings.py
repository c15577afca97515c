"""Settings: a policy with its knob and active branches, or a baseline, as tables name them."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import cast

from eenn.errors import EennError
from eenn.exits.decide import check_active
from eenn.exits.policies.base import KnobValue, Policy, Validation
from eenn.exits.policies.registry import find_policy, make_policy


class Baseline(Enum):
    """A way to answer that policies are compared with; its value is how it is printed."""

    ORACLE = "oracle (no policy)"
    LAST_EXIT_ONLY = "last exit only"
    EDGE_ONLY = "edge only"
    # Of an offloading benchmark.
    CLOUD_ONLY = "cloud only"
    WHOLE_ON_EDGE = "whole network on the edge"
    EARLY_ON_EDGE = "early exits, rest on the edge"


@dataclass(frozen=True)
class Setting:
    """One way to answer: a policy over active branches, or a baseline.

    Args:
        policy: None for a baseline that has no threshold.
        active: the branches evaluated on the edge, counted from 0.
        goal: the goal of the knob's fit, in words; empty where the knob was not fitted.
    """

    policy: Policy | None
    active: tuple[int, ...]
    baseline: Baseline | None = None
    goal: str = ""

    @property
    def name(self) -> str:
        """Name the policy or the baseline as tables print it."""
        if self.baseline is not None or self.policy is None:
            return self.baseline.value if self.baseline else ""
        return f"{self.policy.label}, {self.goal}" if self.goal else self.policy.label

    @property
    def knob(self) -> str:
        """Name the policy's knob; empty for a policy or baseline without one."""
        knob = self.policy.knob if self.policy is not None else None
        return knob.name if knob is not None else ""

    @property
    def value(self) -> KnobValue:
        """Return the knob's value; NaN without a knob."""
        return math.nan if self.policy is None else self.policy.knob_value

    @property
    def number(self) -> float:
        """Return the knob's value if it is one number, else NaN."""
        return math.nan if isinstance(self.value, tuple) else self.value

    @property
    def value_text(self) -> str:
        """Write the knob's value for tables and legends: 0.8, 0.9 0.8 0.7, or agree 2."""
        if not self.knob:
            return ""
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        text = " ".join(f"{value:g}" for value in values)
        return text if self.knob == "p_tar" else f"{self.knob} {text}"

    @property
    def policy_text(self) -> str:
        """Write the policy and its knob in words: confidence, strict 10, p_tar 0.5."""
        if self.policy is None:
            return self.name
        knob = "p_tar " if self.knob == "p_tar" else ""
        return f"{self.policy.label}, {knob}{self.value_text}" if self.knob else self.policy.label

    @property
    def branches(self) -> str:
        """Write the active branches as users count them: 1 2 3."""
        return " ".join(str(branch + 1) for branch in self.active)


@dataclass(frozen=True)
class Swept:
    """A policy and the values of its knob in a grid.

    Args:
        settings: of the policy, without the knob.
        values: of the knob; empty for a policy without one.
    """

    name: str
    settings: Mapping[str, object]
    values: Sequence[KnobValue]

    def policies(self, validation: Validation | None = None) -> list[Policy]:
        """Build the policy at every value of its knob, or once if it has no knob.

        Raises:
            EennError: see `make_policy`.
        """
        knob = find_policy(self.name).knob
        if knob is None:
            return [make_policy(self.name, self.settings, validation)]
        return [
            make_policy(self.name, {**self.settings, knob.name: value}, validation)
            for value in self.values
        ]


def swept_once(policy: Policy) -> Swept:
    """Set out one policy at the one value of its knob."""
    settings = json.loads(policy.to_json())
    name = settings.pop("name")
    if policy.knob is None:
        return Swept(name, settings, ())
    del settings[policy.knob.name]
    return Swept(name, settings, [policy.knob_value])


def swept(
    name: str, settings: Mapping[str, object], grids: Mapping[str, Sequence[KnobValue]]
) -> list[Swept]:
    """Set out a policy over the values of its knob, once for every combination of other grids.

    Args:
        settings: of the policy; the knob and the settings that `Policy.grids` names may be one
            value or a list of them.
        grids: values of knobs by name, for policies whose settings give none.

    Raises:
        EennError: no policy has that name.
    """
    policy = find_policy(name)
    given = ((key, settings.get(key)) for key in policy.grids)
    lists = {key: value for key, value in given if isinstance(value, list)}
    combined = (dict(zip(lists, own, strict=True)) for own in product(*lists.values()))
    return [_swept(policy, {**settings, **own}, grids) for own in combined]


def _swept(
    policy: type[Policy], settings: dict[str, object], grids: Mapping[str, Sequence[KnobValue]]
) -> Swept:
    knob = policy.knob
    if knob is None:
        return Swept(policy.name, settings, ())
    given = settings.pop(knob.name, None)
    if given is None:
        return Swept(policy.name, settings, grids.get(knob.name, [knob.default]))
    # The policy itself refuses a value that is not a number.
    values = given if isinstance(given, list) else [given]
    return Swept(policy.name, settings, cast(Sequence[KnobValue], values))


@dataclass(frozen=True)
class ActiveBranches:
    """The sets of active branches as users write them, counted from 1.

    Args:
        active: one set of branches.
        active_sets: several of them.
        first: the number of first branches.

    None of the three stands for the first branch, the first two, ... and all of them.

    Raises:
        EennError: more than one of the three.
    """

    active: Sequence[int] | None = None
    active_sets: Sequence[Sequence[int]] | None = None
    first: int | None = None

    def __post_init__(self) -> None:
        if len(self._given) > 1:
            raise EennError(
                f"{' and '.join(self._given)}: allowed is one of them; leave the others out"
            )

    @property
    def chosen(self) -> bool:
        """Tell if the user chose any branches."""
        return bool(self._given)

    def sets(self, branches: int) -> list[tuple[int, ...]]:
        """List the sets of active branches, counted from 0, of a network's `branches` branches.

        Raises:
            EennError: a branch that the network does not have.
        """
        if self.first is not None:
            if not 0 <= self.first <= branches:
                raise EennError(f"first={self.first}: allowed are 0 to {branches} branches")
            return [tuple(range(self.first))]
        sets = self.active_sets
        if self.active is not None:
            sets = [self.active]
        if sets is None:
            return [tuple(range(count)) for count in range(1, branches + 1)]
        return [check_active([branch - 1 for branch in own], branches) for own in sets]

    @property
    def _given(self) -> list[str]:
        return [name for name, value in vars(self).items() if value is not None]

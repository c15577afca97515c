"""Designs: one network or a cascade of two, active branches, a policy, a place of the rest."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eenn.errors import EennError
from eenn.evaluation.evaluated import Evaluated, Evaluation
from eenn.evaluation.fitting import Fitted, Goal
from eenn.evaluation.grid import Case
from eenn.exits.decide import Decisions
from eenn.exits.policies.base import Bools, Floats, Policy
from eenn.exits.policies.registry import find_policy
from eenn.exits.rests import CLOUD, NOBODY, PHOTOGRAPH
from eenn.exits.settings import Setting, Swept
from eenn.records.evaluated_artifact import EvaluatedArtifact

SINGLE_EXIT, EARLY_EXITS, PLAIN_CASCADE, CASCADE = KINDS = (
    "single exit",
    "early exits",
    "cascade of single exits",
    "cascade",
)
# Of the candidates of a fit every fourth is tried, as a frontier tries thousands of designs.
STEP = 4


@dataclass(frozen=True)
class Family:
    """Networks, active branches and the place of the rest: a design but for its policy.

    Args:
        active: the active branches, counted from 0; none where the whole network answers.
        kind: one of KINDS. A single exit answers all images, so that its cost never varies.
    """

    evaluated: Evaluated
    active: tuple[int, ...]
    kind: str

    @property
    def rest(self) -> str:
        """Name the place of the rest, as of `Deployment`."""
        return self.evaluated.evaluation.rest

    def policies(self, strict: Sequence[float] | None) -> Iterator[Policy]:
        """Build the policies to try over these branches.

        Args:
            strict: values to try for policies that have it; None for the policies' own.
        """
        for swept in self.evaluated.policies():
            knob = find_policy(swept.name).knob
            values: Sequence[float] = ()
            if knob is not None and self.kind == SINGLE_EXIT:
                values = [knob.default]
            elif knob is not None:
                values = knob.candidates(len(self.active))[::STEP]
            for settings in self._settings(swept, strict):
                own = Swept(swept.name, settings, values)
                yield from own.policies(self.evaluated.validation)
            if self.kind == SINGLE_EXIT:
                return  # Nothing is decided, so that one policy stands for all.

    def _settings(self, swept: Swept, strict: Sequence[float] | None) -> list[dict[str, object]]:
        varied = strict is not None and "strict" in find_policy(swept.name).grids
        if not varied or strict is None or self.kind == SINGLE_EXIT:
            return [dict(swept.settings)]
        return [{**swept.settings, "strict": one} for one in strict]


@dataclass(frozen=True)
class Design:
    """A family with its policy, and its results on the validation split.

    Args:
        error: standard error of the accuracy's paired difference from the reference's.
        costs: mean of every one of COSTS.
    """

    family: Family
    policy: Policy
    accuracy: float
    error: float
    costs: dict[str, float]

    @property
    def kind(self) -> str:
        """Name the kind of the family, one of KINDS."""
        return self.family.kind

    @property
    def setting(self) -> Setting:
        """Return policy and active branches as one setting."""
        return Setting(self.policy, self.family.active)

    def counts_for(self, cost: str) -> bool:
        """Tell if the design is compared by a cost: by those of the link if it has a cloud."""
        return cost not in OF_LINK or self.family.rest == CLOUD

    def fitted(self, goal: Goal) -> Fitted:
        """Return the design as a policy that was fitted to a goal."""
        return Fitted(
            self.policy,
            self.family.active,
            goal,
            self.accuracy,
            self.costs[goal.cost],
            self.family.evaluated.case(self.family.evaluated.fit_split, 0),
        )


def families(
    named: Sequence[tuple[str, EvaluatedArtifact]], evaluation: Evaluation, rests: Sequence[str]
) -> Iterator[Family]:
    """List the families of networks.

    Single exits are every exit of every network on the device, and every whole network in the
    cloud. Early exits are every run of neighbouring branches; a cascade's first network has its
    last exit among them, and where one exit alone decides there, it is a cascade of single exits.
    Of two networks the one whose last exit is more accurate on validation comes second.

    Args:
        named: as `named_artifacts` gives them.
        rests: places of the rest.
    """
    for name, artifact in named:
        alone = Evaluated(name, artifact, replace(evaluation, rest=NOBODY))
        for branch in range(artifact.branches):
            yield Family(alone, (branch,), SINGLE_EXIT)
        for active in runs(artifact.branches):
            if len(active) > 1:
                yield Family(alone, active, EARLY_EXITS)
        for rest in rests:
            payload = PHOTOGRAPH if rest == CLOUD else evaluation.payload
            whole = replace(evaluation, rest=rest, payload=payload)
            yield Family(Evaluated(name, artifact, whole), (), SINGLE_EXIT)
            evaluated = Evaluated(name, artifact, replace(evaluation, rest=rest))
            for active in runs(artifact.branches):
                yield Family(evaluated, active, EARLY_EXITS)
        for then, upstream in named:
            if _last_accuracy(upstream) > _last_accuracy(artifact):
                for rest in rests:
                    passing = replace(evaluation, upstream=upstream, rest=rest)
                    cascade = Evaluated(f"{name}, then {then}", artifact, passing)
                    for active in runs(artifact.branches + 1):
                        kind = CASCADE if len(active) > 1 else PLAIN_CASCADE
                        yield Family(cascade, active, kind)


def _last_accuracy(artifact: EvaluatedArtifact) -> float:
    return artifact.manifest.validation_accuracy[-1]


def runs(branches: int) -> list[tuple[int, ...]]:
    """List every run of neighbouring branches, counted from 0."""
    return [
        tuple(range(first, end))
        for first in range(branches)
        for end in range(first + 1, branches + 1)
    ]


def correctness(case: Case, decisions: Decisions) -> Bools:
    """Compare answers with labels: bool (samples,).

    Raises:
        EennError: the images have no labels.
    """
    correct = case.correct(decisions)
    if correct is None:
        raise EennError(
            "artifacts: these images have no labels, so that no accuracy is known; give a folder "
            "with one folder per class"
        )
    return correct


# Quantities that designs are compared by, of every sample. Where all is answered on the device,
# the last two do not differ, and no design is compared by them.
COSTS: dict[str, Callable[[Case, Decisions], Floats]] = {
    "macs": lambda case, decisions: case.costs.answer_macs(decisions),
    "latency_ms": lambda case, decisions: case.costs.latency_ms(decisions),
    "sent_bytes": lambda case, decisions: case.costs.sent_bytes(decisions),
    "offloaded": lambda _, decisions: (~decisions.on_edge).astype(np.float64),
}
OF_LINK = ("sent_bytes", "offloaded")

"""The rows of an evaluation: all settings of all artifacts at all levels, and fitted policies."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from eenn.errors import EennError, require_numbers
from eenn.evaluation.answers import answers, check_experts, costs
from eenn.evaluation.branch_search import Saving, saving, search
from eenn.evaluation.cascades import cascade_costs, cascaded, check_upstream
from eenn.evaluation.exit_metrics import evaluate_exits
from eenn.evaluation.fitting import Fitted, Goal, fit
from eenn.evaluation.grid import (
    Case,
    Decided,
    Service,
    by_baselines,
    by_policies,
    exit_outputs,
    exit_probs,
    exits_taken,
    point,
    tradeoff,
)
from eenn.evaluation.rows import ExitTaken, Network, Point, Results
from eenn.exits.head_sets import PLAIN_HEADS, HeadChoice
from eenn.exits.policies.base import KnobValue, Validation
from eenn.exits.rests import CLOUD, PHOTOGRAPH
from eenn.exits.settings import ActiveBranches, Swept
from eenn.offload.protocol.codecs import CODECS
from eenn.planning.costs import CostModel, Link
from eenn.records.evaluated_artifact import FIT_FOLDER, EvaluatedArtifact, ImagesNotFound
from eenn.records.records import FOLDER, ExitRecords
from eenn.statistics.risk_control import Infeasible

VALIDATION, TEST = "val", "test"


@dataclass(frozen=True)
class Evaluation:
    """The settings of an evaluation.

    Args:
        policies: to evaluate; curves against a knob are drawn for the first one.
        p_tars: thresholds of the baselines.
        levels: of the distortion; 0 is none. Figures of a single level show the first.
        temperature: `per_exit`, `shared` or `none`.
        experts: the heads that answer.
        goal: the goal that a knob is fitted to, at level 0, on an artifact's FIT_FOLDER or else its
            validation split; or None.
        upstream: a network that answers images that no active branch accepts, from the photograph.
        rest, payload: as of `Deployment`.
        search: whether a fit chooses among all sets of active branches, too.

    Raises:
        EennError: nothing to compute, or a level twice.
    """

    split: str
    policies: Sequence[Swept]
    p_tars: Sequence[KnobValue]
    active: ActiveBranches
    distortion: str
    levels: Sequence[float]
    temperature: str
    experts: HeadChoice
    link: Link
    service: Service
    goal: Goal | None
    upstream: EvaluatedArtifact | None = None
    rest: str = CLOUD
    payload: str = "fp32"
    search: bool = False

    def __post_init__(self) -> None:
        if not self.p_tars:
            raise EennError("p_tar=[]: allowed is a number or a list of them")
        for level in self.levels:
            require_numbers(level=level)
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise EennError(
                f"distortion.level={list(self.levels)}: allowed is a number, or a list of "
                "different numbers"
            )


@dataclass(frozen=True)
class Computed:
    """The outcome of an evaluation.

    Args:
        fitted: policies that were fitted.
        unmet: fits without a solution, and tables left out for want of images, a line each.
        savings: of searches for active branches, on the images of every level.
    """

    results: Results
    fitted: list[Fitted]
    unmet: list[str]
    savings: list[Saving]


def evaluate(named: Sequence[tuple[str, EvaluatedArtifact]], evaluation: Evaluation) -> Computed:
    """Compute all rows of an evaluation for all artifacts, and fit the policies' knobs.

    The network runs at most once per artifact and level.

    Args:
        named: as `named_artifacts` gives them.

    Raises:
        EennError: the same artifact twice, one that has no such experts, or a fit reported on the
            images that it was fitted to.
    """
    for _, artifact in named:
        check_experts(artifact, evaluation.experts, evaluation.distortion)
    ids = [artifact.manifest.id for _, artifact in named]
    if not ids or len(set(ids)) < len(ids):
        raise EennError(f"artifact: {len(ids)} given; allowed are one or more different ones")
    computed = Computed(Results([], [], [], []), [], [], [])
    for name, artifact in named:
        evaluated = Evaluated(name, artifact, evaluation)
        computed.fitted.extend(evaluated.add_to(computed.results))
        computed.unmet.extend(evaluated.unmet)
        computed.savings.extend(evaluated.savings)
    return computed


class Evaluated:
    """One artifact under evaluation.

    `unmet` says which policies could not be fitted, or were left out, and why. `savings` are those
    of searches for active branches. `split` names the images that are evaluated, `fit_split` those
    that knobs are fitted to.
    """

    def __init__(self, name: str, artifact: EvaluatedArtifact, evaluation: Evaluation) -> None:
        self.artifact, self.evaluation = artifact, evaluation
        self.unmet: list[str] = []
        self.savings: list[Saving] = []
        self._searched: list[tuple[Fitted, Fitted]] = []
        upstream, accuracy = evaluation.upstream, artifact.manifest.validation_accuracy
        branches = artifact.branches
        if upstream is not None:
            check_upstream(artifact, upstream)
            accuracy = (*accuracy, upstream.manifest.validation_accuracy[-1])
            branches += 1
        self.network = Network(name, artifact.branches, artifact.split.seed)
        self.spent = _spent(artifact, evaluation)
        self.actives = evaluation.active.sets(branches) if branches else []
        self.largest = max(self.actives, key=len, default=())
        self.split = _split_of(artifact, evaluation)
        self.fit_split = FIT_FOLDER if FIT_FOLDER in artifact.folders else VALIDATION
        self.validation = Validation(accuracy, lambda: exit_outputs(*self.answers(VALIDATION, 0)))

    def add_to(self, results: Results) -> list[Fitted]:
        """Add the rows of all levels; gives the fitted policies."""
        evaluation, policies = self.evaluation, self.policies()
        fitted = list(self._fitted(policies))
        for level in evaluation.levels:
            records, temperatures = self.answers(self.split, level)
            case = self.case(self.split, level)
            decided = by_policies(case, policies, self.actives, self.validation)
            decided += by_baselines(case, evaluation.p_tars, self.largest)
            results.exits.extend(row for each in decided for row in self._exits(case, each))
            decided += [each.decide(case) for each in fitted]
            self.savings.extend(saving(case, *each) for each in self._searched)
            results.points.extend(self._point(case, each) for each in decided)
            rows = evaluate_exits(self.network, case.level, records, temperatures)
            results.exit_metrics.extend(rows)
            if level == 0 and evaluation.goal and evaluation.goal.goal == "risk":
                fitted = [each.observed(case) for each in fitted]
            # A job of a sweep is one point; curves over settings need more than that.
            if level == evaluation.levels[0] and self.largest and len(evaluation.p_tars) > 1:
                results.tradeoff.extend(self._tradeoff(case))
        return fitted

    def policies(self) -> list[Swept]:
        """List the policies, but for those that need validation images that are not found."""
        usable = []
        for swept in self.evaluation.policies:
            try:
                swept.policies(self.validation)
            except ImagesNotFound as error:
                self._leave_out(f"policy {swept.name}", error)
            else:
                usable.append(swept)
        return usable

    def answers(self, split: str, level: float) -> tuple[ExitRecords, tuple[float, ...]]:
        """Fetch the logits and temperatures behind the answers; see `answers`.

        Raises:
            ImagesNotFound: the images were not recorded yet, and are not at hand.
        """
        evaluation = self.evaluation
        found = answers_of(self.artifact, evaluation, split, level)
        if evaluation.upstream is None:
            return found
        plain = replace(evaluation, experts=PLAIN_HEADS)
        return cascaded(found, answers_of(evaluation.upstream, plain, split, level))

    def case(self, split: str, level: float) -> Case:
        """Build the case of some images at a level.

        Raises:
            ImagesNotFound: see `answers`.
        """
        records, temperatures = self.answers(split, level)
        return Case(
            self.network,
            float(level),
            exit_probs(records, temperatures),
            records.labels,
            self.spent,
            self.evaluation.service,
            self.evaluation.rest,
        )

    def _fitted(self, policies: Sequence[Swept]) -> Iterator[Fitted]:
        evaluation = self.evaluation
        if not evaluation.goal:
            return
        self.check_fit()
        try:
            case = self.case(self.fit_split, 0)
        except ImagesNotFound as error:
            self._leave_out("fit", error)
            return
        for policy in policies:
            given = evaluation.goal, case, policy.name, policy.settings
            if evaluation.search and self.actives:
                fit_all = partial(fit, *given, self.largest, self.validation)
                for found in self._met("", partial(search, *given, self.validation)):
                    all_active = self._met(_shown(self.largest), fit_all)
                    self._searched += [(all_fitted, found) for all_fitted in all_active]
                    yield found
                continue
            for active in self.actives:
                yield from self._met(_shown(active), partial(fit, *given, active, self.validation))

    def _met(self, active: str, fitting: Callable[[], Fitted]) -> list[Fitted]:
        """Fit, or tell why no policy meets the goal.

        Returns:
            The fitted policy, if there is one.
        """
        try:
            return [fitting()]
        except Infeasible as error:
            self.unmet.append(f"{self.network.network}{active}: {error}")
            return []

    def check_fit(self) -> None:
        """Check that no fit is reported on the images that it was fitted to."""
        folders = self.artifact.folders
        if self.fit_split == self.split:
            raise EennError("fit with split=val: thresholds are fitted there; use split=test")
        if self.split in folders and self.fit_split in folders:
            evaluated, fitted = folders[self.split], folders[self.fit_split]
            if evaluated.hash == fitted.hash:
                raise EennError(
                    f"fit.images={fitted.root}: these images are the evaluated ones; give others"
                )

    def _tradeoff(self, case: Case) -> list[Point]:
        if case.labels is None:
            return []
        try:
            return tradeoff(case, self.largest, self.validation)
        except ImagesNotFound as error:
            self._leave_out("trade-off of every policy", error)
            return []

    def _leave_out(self, what: str, error: ImagesNotFound) -> None:
        self.unmet.append(f"{self.network.network}: no {what} without validation images: {error}")

    def _point(self, case: Case, decided: Decided) -> Point:
        # A fitted policy is shown for every set of branches.
        most_active = decided.setting.active == self.largest or bool(decided.setting.goal)
        return point(case, decided, most_active)

    def _exits(self, case: Case, decided: Decided) -> list[ExitTaken]:
        return exits_taken(case, decided, decided.setting.active == self.largest)


def _shown(active: tuple[int, ...]) -> str:
    return f", branches {' '.join(str(branch + 1) for branch in active)}"


def _split_of(artifact: EvaluatedArtifact, evaluation: Evaluation) -> str:
    """Name the evaluated images: a whole folder, or a part of the split."""
    folder = artifact.folders.get(FOLDER)
    if folder is None:
        return evaluation.split
    if evaluation.split != TEST:
        raise EennError(
            f"split={evaluation.split}: {folder.root} does not hold the images of the split, and "
            "all of its images are evaluated; leave split out"
        )
    return FOLDER


def _spent(artifact: EvaluatedArtifact, evaluation: Evaluation) -> CostModel:
    """Model the costs of answers, with the rest and the payload of the evaluation."""
    spent = costs(artifact, evaluation.link, evaluation.experts)
    upstream, payload = evaluation.upstream, evaluation.payload
    if evaluation.rest != CLOUD:
        payload = "fp32"  # nothing is sent
    if upstream is None and payload != PHOTOGRAPH:
        share = CODECS[payload].number_bytes / CODECS["fp32"].number_bytes
        features = (share * size for size in spent.payload_bytes[1:])
        return replace(spent, payload_bytes=(spent.payload_bytes[0], *features))
    theirs = costs(upstream, evaluation.link, PLAIN_HEADS) if upstream else None
    sent = artifact.photograph_bytes if evaluation.rest == CLOUD else 0.0
    return cascade_costs(spent, theirs, sent)


def answers_of(
    artifact: EvaluatedArtifact, evaluation: Evaluation, split: str, level: float
) -> tuple[ExitRecords, tuple[float, ...]]:
    """Fetch the logits and temperatures behind an evaluation's answers; see `answers`."""
    return answers(
        artifact, split, evaluation.distortion, level, evaluation.experts, evaluation.temperature
    )

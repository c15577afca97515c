"""Deployments of fitted policies, with their results on the validation samples as promise."""

from collections.abc import Sequence

from eenn.artifact.deployment import Deployment, Promise
from eenn.evaluation.fitting import LAST_EXIT, Fitted
from eenn.evaluation.grid import point
from eenn.exits.head_sets import HeadChoice


def best_of(fitted: Sequence[Fitted]) -> Fitted:
    """Choose among policies that were fitted to the same goal, each the best of its kind.

    A limit on accuracy or risk selects the cheapest, a limit on a cost the most accurate.
    """
    if fitted[0].goal.wants_cheapest:
        return min(fitted, key=lambda one: (one.validation_cost, -one.validation_accuracy))
    return min(fitted, key=lambda one: (-one.validation_accuracy, one.validation_cost))


def deployment_of(
    fitted: Fitted, artifact_id: str, temperature: str, experts: HeadChoice, images: str
) -> Deployment:
    """Make the deployment of a fitted policy, with its results on the fitted samples as promise.

    Args:
        images: the images that the policy was fitted to, in words.
    """
    case = fitted.validation
    measured = point(case, fitted.decide(case))
    right: dict[str, tuple[float, float, float]] = {"accuracy": measured.accuracy}
    if fitted.goal.against == LAST_EXIT:
        # A fit without labels promises nothing about them, even where there are some.
        right = {"same_as_last": measured.same_as_last}
    means: dict[str, tuple[float, float, float]] = {
        **right,
        "edge_probability": measured.edge_probability,
        "macs": measured.macs,
        "latency_ms": measured.latency_ms,
        "sent_bytes": measured.sent_bytes,
    }
    link = case.costs.link
    return Deployment(
        artifact_id=artifact_id,
        policy=fitted.policy,
        active=fitted.active,
        temperature=temperature,
        experts=experts,
        promise=Promise(
            images=images,
            n=measured.n,
            goal=str(fitted.goal),
            means=dict(means),
            bandwidth_mbps=link.bandwidth_mbps,
            rtt_ms=link.rtt_ms,
        ),
    )

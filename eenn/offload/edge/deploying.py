"""The deployment that `eenn-edge` uses: from a deployment file or defaults, changed by flags."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from eenn.artifact.deployment import Deployment, Upstream
from eenn.artifact.manifest import Manifest, check_classes, read_manifest
from eenn.errors import EennError
from eenn.exits.policies.base import Policy, Validation
from eenn.exits.policies.registry import find_policy, make_policy
from eenn.exits.policies.threshold import DEFAULT
from eenn.exits.rests import CLOUD, NOBODY
from eenn.exits.settings import ActiveBranches
from eenn.offload.edge.argument_values import OFF
from eenn.offload.edge.arguments import FLAGS, SETTINGS
from eenn.offload.edge.changes import changed_fields
from eenn.offload.edge.plans import Plans
from eenn.planning.table import FASTEST

UPSTREAM = "upstream"  # folder of an upstream network inside a folder for a device


def deployment_of(given: argparse.Namespace, manifest: Manifest) -> tuple[Deployment, str]:
    """Make the deployment from the deployment file, or else from defaults, and from flags.

    Returns:
        The deployment, and a line that describes it and the changes by flags.

    Raises:
        EennError: the file is not a deployment of this artifact, or a flag does not fit it.
    """
    if given.plans is not None:
        base, origin = _planned(given, manifest)
    elif given.deployment is not None:
        base, origin = Deployment.load(given.deployment), str(given.deployment)
    else:
        every = tuple(range(len(manifest.exits) - 1))
        policy = _policy(given.policy or DEFAULT, {}, given, manifest)
        base = Deployment(artifact_id=manifest.id, policy=policy, active=every)
        origin = "no --deployment, so by default"
    base.check(manifest)
    deployment = _overridden(base, given, manifest)
    deployment.check(manifest)
    if given.cloud is not None and deployment.rest != CLOUD and given.plans is None:
        raise EennError(
            f"--cloud with rest={deployment.rest}, which sends nothing; leave --cloud out, or give "
            f"--rest {CLOUD}"
        )
    if deployment.guard is not None and given.cloud is None:
        raise EennError(
            "the deployment has a guard, which compares answers with those of a cloud; give "
            f"--cloud URL, or --guard {OFF}"
        )
    if given.keep_audits is not None and not (deployment.guard and deployment.guard.audit):
        raise EennError(
            "--keep-audits keeps photographs of audits, and there are none; give --guard with "
            "audit above 0, or leave --keep-audits out"
        )
    setting = deployment.setting
    said = (
        f"{origin}: {setting.policy_text}, fallback {deployment.policy.fallback_to}, branches "
        f"{setting.branches or 'none'}, temperature {deployment.temperature}, experts "
        f"{deployment.experts}, precision {deployment.precision}, {_rest_text(given, deployment)}"
    )
    if deployment.guard is not None:
        said += f", guard {deployment.guard}"
    named_file = given.plans is not None or given.deployment is not None
    if named_file and deployment != base:
        said += f"; flags in place of the file's {changed_fields(base, deployment, FLAGS)}"
    return deployment, said


def _planned(given: argparse.Namespace, manifest: Manifest) -> tuple[Deployment, str]:
    """Choose a plan from a table; return its deployment, and a line about the choice."""
    plans = Plans.load(given.plans)
    plans.check(manifest)
    count = len(plans.table)
    if given.plan is not None:
        if not 1 <= given.plan <= count:
            raise EennError(
                f"--plan {given.plan}: allowed are 1 to {count}, those of {given.plans}"
            )
        return plans.table.designs[given.plan - 1], f"{given.plans}, plan {given.plan} of {count}"
    flags = {
        "link": given.link,
        "slowdown": given.slowdown,
        "cloud_load": given.cloud_load,
    }
    at = replace(plans.at, **{name: own for name, own in flags.items() if own is not None})
    row = plans.choose(at, given.cloud is not None)
    latency_ms = plans.table.metric(FASTEST.metric, at)[row]
    return plans.table.designs[row], (
        f"{given.plans}, plan {row + 1} of {count} for {at.link}, device {at.slowdown:g} and cloud "
        f"{at.cloud_load:g} times as slow: {latency_ms:.1f} ms expected"
    )


def upstream_path(given: argparse.Namespace, manifest: Manifest, upstream: Upstream) -> Path:
    """Find the artifact of an upstream network that runs on this device.

    Raises:
        EennError: the artifact is not given, is not the deployment's, or has other classes.
    """
    path = given.upstream or manifest.path / UPSTREAM
    if not path.exists():
        raise EennError(
            f"the deployment passes images on to artifact {upstream.artifact_id:.12} on this "
            "device; give --upstream DIR, the directory of that artifact"
        )
    found = read_manifest(path)
    if found.id != upstream.artifact_id:
        raise EennError(
            f"{path} is artifact {found.id:.12} and the deployment names {upstream.artifact_id:.12}"
            "; give --upstream DIR, the directory of that artifact"
        )
    check_classes(manifest, found)
    return Path(path)


def _rest_text(given: argparse.Namespace, deployment: Deployment) -> str:
    """Word the rest of a deployment: its place, network and payload."""
    upstream = deployment.upstream
    network = f" by {upstream}" if upstream else ""
    if deployment.rest == NOBODY:
        return f"rest {NOBODY}"
    if deployment.rest != CLOUD:
        return f"rest {deployment.rest}{network}"
    if given.cloud is None:
        return "no --cloud, so the last active branch answers"
    at = "" if deployment.cut is None else f" after block {deployment.cut}"
    return (
        f"rest {CLOUD}{network}, payload {deployment.payload}{at}, deadline "
        f"{deployment.deadline_ms:g} ms, on failure {deployment.on_failure}"
    )


def _upstream(base: Deployment, given: argparse.Namespace, manifest: Manifest) -> Upstream | None:
    """Read the upstream network of the flag; return None if the file already names it."""
    if given.upstream is None:
        return None
    found = read_manifest(given.upstream)
    check_classes(manifest, found)
    if base.upstream and base.upstream.artifact_id == found.id:
        return None
    temperature = found.temperatures.chosen(given.temperature or base.temperature)[-1]
    return Upstream(found.id, temperature)


def _overridden(base: Deployment, given: argparse.Namespace, manifest: Manifest) -> Deployment:
    """Replace single fields of a deployment by flags."""
    settings = json.loads(base.policy.to_json())
    name = settings.pop("name")
    if given.policy not in (None, name):
        name, settings = given.policy, {}
    named = ActiveBranches(active=given.active, first=given.first)
    upstream = _upstream(base, given, manifest)
    # With an upstream network the artifact's last exit counts as a branch.
    branches = len(manifest.exits) - (upstream is None and base.upstream is None)
    changed = {
        "policy": _policy(name, settings, given, manifest),
        "active": named.sets(branches)[0] if named.chosen else None,
        **{field: getattr(given, field) for field in FLAGS},
        "upstream": upstream,
    }
    fields = {key: value for key, value in changed.items() if value is not None}
    if given.guard == OFF:
        fields["guard"] = None
    # A file's cut is for its branches and payload.
    if given.cut is None and {"active", "rest", "payload", "upstream"} & fields.keys():
        fields["cut"] = None
    deployment = replace(base, **fields)
    # What was measured does not hold for another decision.
    decides = ("policy", "active", "temperature", "experts", "precision", "upstream")
    same = all(getattr(deployment, name) == getattr(base, name) for name in decides)
    return deployment if same else replace(deployment, promise=None)


def _policy(
    name: str, settings: Mapping[str, object], given: argparse.Namespace, manifest: Manifest
) -> Policy:
    """Build the policy from its settings, overridden by flags.

    Raises:
        EennError: the policy does not have a setting, or does not allow its value.
    """
    flags = {key: value for key in SETTINGS if (value := getattr(given, key)) is not None}
    if given.thresholds is not None:
        flags["p_tar"] = given.thresholds
    knob = find_policy(name).knob
    defaults = {knob.name: knob.default} if knob is not None else {}
    validation = Validation(manifest.validation_accuracy)
    return make_policy(name, {**defaults, **settings, **flags}, validation)

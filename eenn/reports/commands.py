"""Commands in a report to go on with its results."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from eenn.exits.rests import CLOUD
from eenn.exits.settings import Setting
from eenn.programs import EVALUATE


def device_command(
    artifact: Path, deployment: Path, rest: str = CLOUD, upstream: Path | None = None
) -> str:
    """Write the command that answers photographs by a deployment, for any current directory.

    Args:
        rest: as of `Deployment`.
        upstream: the artifact of the network that images are passed on to.
    """
    parts = ["eenn-edge", "--artifact", str(artifact.absolute())]
    parts += ["--deployment", str(deployment.absolute())]
    parts += ["--cloud", "URL"] if rest == CLOUD else []
    parts += ["--upstream", str(upstream.absolute())] if upstream else []
    return shlex.join([*parts, "PHOTO.jpg"])


def experts_command(artifact: Path, experts: str = "auto") -> str:
    """Write the command that answers photographs by the heads for their distortion, anywhere."""
    parts = ["eenn-edge", "--artifact", str(artifact.absolute()), "--experts", experts]
    return shlex.join([*parts, "--cloud", "URL", "PHOTO.jpg"])


def evaluate_command(artifact: Path, *settings: str) -> str:
    """Give the command that evaluates an artifact."""
    return f"{EVALUATE.command} {shlex.join([f'artifact={artifact}', *settings])}"


def frontier_command(artifacts: Sequence[Path], budget_macs: float) -> str:
    """Write the command that fits a deployment over several artifacts to a budget of MACs."""
    given = f"artifacts=[{','.join(map(str, artifacts))}]"
    goal = ["fit.goal=macs", f"fit.limit={budget_macs:.2g}"]
    return f"{EVALUATE.command} {shlex.join([given, *goal])}"


def fit_settings(setting: Setting, has_labels: bool) -> list[str]:
    """List the settings of an evaluation that fits a setting's policy, and writes a deployment."""
    branches = ",".join(setting.branches.split())
    policy = [f"policy={setting.policy.name}"] if setting.policy else []
    against = [] if has_labels else ["fit.against=last_exit"]
    goal = ["fit.goal=accuracy_drop", "fit.limit=0.01"]
    return [*policy, f"active=[{branches}]", *goal, *against]

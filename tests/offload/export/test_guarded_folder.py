"""A folder for a device with a guard: it has all that the guard and its audits need."""

import json
from pathlib import Path

import pytest

from eenn.artifact.deployment import Deployment
from eenn.artifact.guard_settings import GuardSettings
from eenn.exits.policies.registry import make_policy
from eenn.offload.cloud.command import running
from tests.offload.device_folder import export_to
from tests.offload.edge.edge_command import parsed, run_bare
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S

IMAGES = 8  # as many as audits may wait
PATIENT = f"""
audits.REPLY_S = audits.FREE_LINK_S = audits.ENDING_S = {PATIENCE_S}
"""


@pytest.mark.parametrize("payload", ["uint8", "photograph"])
def test_a_folder_with_a_guard_audits_where_only_the_base_package_is_installed(
    payload: str, exported: Exported, tmp_path: Path
) -> None:
    chosen, folder = tmp_path / "chosen.json", tmp_path / "folder"
    Deployment(
        artifact_id=exported.graphs.manifest.id,
        policy=make_policy("confidence", {"p_tar": 0.4}),
        active=(0, 2),
        payload=payload,
        deadline_ms=1e3 * PATIENCE_S,
        guard=GuardSettings(risk=0.5, delta=0.5, audit=1),
    ).save(chosen)
    assert export_to(exported.path, "--deployment", chosen, "--to", folder)[0] == 0
    # Two runs, because the burst with which the guard begins is over after three images.
    with running([exported.path]) as cloud:
        given = ("--json", "--artifact", folder, "--cloud", cloud.url)
        burst = run_bare(*given, *exported.files[:3], first=PATIENT)
        watched = run_bare(*given, *exported.files[3 : 3 + IMAGES], first=PATIENT)
    for done in (burst, watched):
        assert done.returncode == 0, done.stderr
    assert {answer["place"] for answer in parsed(burst.stdout.splitlines())} == {"cloud"}
    answers = parsed(watched.stdout.splitlines())
    state = json.loads((folder / "guard.json").read_text())
    left = [answer["place"] for answer in answers].count("edge")
    assert left > 0
    assert state["totals"]["images"] == 3 + IMAGES
    assert state["totals"]["kept"] == left
    # The cloud may refuse audits while it has answers to give, but none may end in a bug.
    assert state["totals"]["audits"] + state["totals"]["dropped_audits"] == left
    assert "Traceback" not in watched.stderr

"""SIGHUP with a guard and a field log: both go on, and what the guard says is still heard."""

import http.client
import json
import signal
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from eenn.artifact.guard_settings import GuardSettings
from eenn.offload.cloud.command import running
from tests.offload.edge.edge_command import process
from tests.offload.edge.guarded import deployment_of
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S

SETTINGS = GuardSettings(risk=0.3, delta=0.5, audit=0)
BURST = 6


@pytest.mark.slow
def test_a_burst_goes_on_over_a_reload_and_is_begun_again_for_other_settings(
    exported: Exported, tmp_path: Path
) -> None:
    file, log = tmp_path / "deployment.json", tmp_path / "field.jsonl"
    first = replace(deployment_of(exported, SETTINGS), deadline_ms=1e3 * PATIENCE_S)
    first.save(file)
    given = ("--deployment", file, "--serve", 0, "--log", log, "--guard-state", tmp_path / "state")
    with (
        running([exported.path]) as cloud,
        process(exported, "--cloud", cloud.url, *given) as edge,
    ):
        assert edge.stdout
        assert edge.stderr
        address = edge.stdout.readline().removeprefix("listening on http://").strip()

        def classify(files: Sequence[Path]) -> None:
            with closing(http.client.HTTPConnection(address, timeout=PATIENCE_S)) as connection:
                for photo in files:
                    connection.request("POST", "/classify", photo.read_bytes())
                    assert connection.getresponse().read()

        def said() -> str:
            assert edge.stderr
            return edge.stderr.readline()

        assert "guard risk=0.3" in said()
        assert f"offloads {BURST} images" in said()
        classify(exported.files[:4])
        # The same guard, with another deadline.
        replace(first, deadline_ms=2e3 * PATIENCE_S).save(file)
        edge.send_signal(signal.SIGHUP)
        took = said()
        assert took.startswith(f"SIGHUP: took {file}: ")
        assert "offloads" not in took, "the burst is not begun again"
        classify(exported.files[4:BURST])
        assert said().startswith("guard: threshold ")
        replace(first, guard=GuardSettings(risk=0.3, delta=0.5, audit=0.5)).save(file)
        edge.send_signal(signal.SIGHUP)
        assert f"not known yet; offloads {BURST} images" in said()
        classify(exported.files[BURST : 2 * BURST])
        assert said().startswith("guard: threshold ")
        edge.send_signal(signal.SIGTERM)
        assert edge.wait() == 0
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["guard"]["state"] for entry in entries] == ["burst"] * 2 * BURST
    state = json.loads((tmp_path / "state").read_text())
    assert (state["totals"]["images"], state["totals"]["bursts"]) == (BURST, 1)

"""Audits of a guarded edge: what they ask, and that no answer waits for one or is lost by one."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.cloud.command import running
from eenn.offload.edge import audits
from eenn.offload.edge.audits import ROOM
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.guarding import BLIND
from eenn.offload.protocol.errors import CloudOverloaded, CloudUnreachable, OffloadError
from tests.offload.client.flaky import black_hole, serving
from tests.offload.edge.edge_command import decided, outputs_of
from tests.offload.edge.edge_service import Held
from tests.offload.edge.guarded import ALL, ALWAYS, Fake, deployment_of, guarded
from tests.offload.exported import CLASSES, Exported
from tests.offload.patience import PATIENT, wait_until

BUSY = CloudOverloaded("other requests are being answered", "overloaded", 1.0)
GONE = CloudUnreachable("nobody listens", "refused")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No audit is dropped because the machine is slow."""
    for limit in ("FREE_LINK_S", "REPLY_S", "ENDING_S"):
        monkeypatch.setattr(audits, limit, 60.0)


@pytest.fixture
def here(exported: Exported) -> LocalCloud:
    return LocalCloud(exported.path)


@pytest.fixture
def leaving(exported: Exported) -> list[int]:
    """Files that leave on the edge, at every branch."""
    made = decided(exported, ALL, cloud=True)
    assert set(made.taken[made.on_edge]) == {0, 1, 2}
    return np.flatnonzero(made.on_edge).tolist()


@pytest.fixture
def offloaded(exported: Exported) -> Path:
    made = decided(exported, ALL, cloud=True)
    return exported.files[int(np.flatnonzero(~made.on_edge)[0])]


def raising(error: Exception) -> Fake:
    def answer(_: Any) -> NDArray[np.float32]:
        raise error

    return Fake(answer)


def disagreements(exported: Exported, images: Sequence[int]) -> int:
    labels = decided(exported, ALL, cloud=True).label[images]
    return int((labels != outputs_of(exported)[-1, images].argmax(-1)).sum())


@pytest.mark.parametrize("payload", ["fp32", "photograph"])
def test_an_audit_compares_with_the_last_exit_for_the_same_image(
    payload: str, exported: Exported, here: LocalCloud, leaving: list[int], tmp_path: Path
) -> None:
    images = leaving[:8]
    logits: list[NDArray[np.float32]] = []
    deployment = deployment_of(exported, ALWAYS, share=0.5, payload=payload)
    with (
        running([exported.path]) as server,
        HttpCloud(server.url, exported.graphs.id, background=True, **PATIENT) as cloud,
    ):
        asked = cloud.infer if payload == "fp32" else cloud.infer_files

        def answer(*given: Any) -> NDArray[np.float32]:
            logits.append(asked(*given))
            return logits[-1]

        name = "infer" if payload == "fp32" else "infer_files"
        with (
            pytest.MonkeyPatch.context() as patch,
            guarded(exported, deployment, tmp_path / "guard.json", here, cloud) as edge,
        ):
            patch.setattr(cloud, name, answer)
            edge.answers([exported.files[image] for image in images])
            wait_until(lambda: edge.totals["audits"] == len(images))
            assert edge.totals["disagreements"] == disagreements(exported, images)
            assert edge.totals["dropped_audits"] == 0
    with torch.inference_mode():
        expected = exported.network(torch.from_numpy(exported.images[images]))[-1].numpy()
    np.testing.assert_allclose(np.concatenate(logits), expected, rtol=1e-3, atol=1e-3)


def test_a_held_audit_delays_no_answer_and_their_number_is_bounded(
    exported: Exported, here: LocalCloud, leaving: list[int], offloaded: Path, tmp_path: Path
) -> None:
    held = Held(here)
    audited = Fake(lambda features: held.infer(features, exported.cut(3), None))
    files = [exported.files[image] for image in leaving[: ROOM + 5]]
    deployment = deployment_of(exported, ALWAYS, share=0.5)
    with guarded(exported, deployment, tmp_path / "guard.json", here, audited) as edge:
        edge.answers(files[:1])
        assert held.asked.wait(60)
        answers = edge.answers([*files[1:], offloaded])
        assert [answer["place"] for answer in answers] == ["edge"] * (ROOM + 4) + ["cloud"]
        assert edge.totals["audits"] == 0
        held.released.set()
        # One under way, and those that waited; where there was no room, none was begun.
        wait_until(lambda: edge.totals["audits"] == 1 + ROOM)
        assert edge.totals["dropped_audits"] == 0
    assert held.most_at_once == 1


def test_no_audit_is_sent_while_an_answer_asks_the_cloud(
    exported: Exported, here: LocalCloud, leaving: list[int], offloaded: Path, tmp_path: Path
) -> None:
    held, sent = Held(here), Event()

    def answer(features: Any) -> NDArray[np.float32]:
        sent.set()
        return here.infer(features, exported.cut(3), None)

    deployment = deployment_of(exported, ALWAYS, share=0.5)
    with guarded(exported, deployment, tmp_path / "guard.json", held, Fake(answer)) as edge:
        asking = Thread(target=edge.answers, args=[[offloaded]])
        asking.start()
        assert held.asked.wait(60)
        edge.answers([exported.files[leaving[0]]])
        assert not sent.wait(0.3)
        held.released.set()
        asking.join()
        assert sent.wait(60)


def test_audits_that_never_find_the_link_free_are_dropped(
    exported: Exported,
    here: LocalCloud,
    leaving: list[int],
    offloaded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audits, "FREE_LINK_S", 0.01)
    held = Held(here)
    deployment = deployment_of(exported, ALWAYS, share=0.5)
    with guarded(exported, deployment, tmp_path / "guard.json", held, here) as edge:
        asking = Thread(target=edge.answers, args=[[offloaded]])
        asking.start()
        assert held.asked.wait(60)
        edge.answers([exported.files[leaving[0]]])
        wait_until(lambda: edge.totals["dropped_audits"] == 1)
        assert edge.status["state"] == "watching"
        held.released.set()
        asking.join()
    assert edge.totals["audits"] == 0


@pytest.mark.parametrize(
    ("error", "state"),
    [(BUSY, "watching"), (GONE, "paused"), (ValueError("a bug"), "watching")],
    ids=["busy", "gone", "bug"],
)
def test_a_dropped_audit_pauses_the_tests_only_where_the_cloud_is_gone(
    error: Exception,
    state: str,
    exported: Exported,
    here: LocalCloud,
    leaving: list[int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    deployment = deployment_of(exported, ALWAYS, share=0.5)
    with guarded(exported, deployment, tmp_path / "guard.json", here, raising(error)) as edge:
        edge.answers([exported.files[leaving[0]]])
        wait_until(lambda: edge.totals["dropped_audits"] == 1)
        assert (edge.status["state"], edge.said) == (state, [])
        edge.answers([exported.files[leaving[1]]])
        wait_until(lambda: edge.totals["dropped_audits"] == 2)
    assert ("a bug" in capsys.readouterr().err) == (not isinstance(error, OffloadError))


def test_audits_that_a_busy_cloud_keeps_refusing_are_told_once(
    exported: Exported, here: LocalCloud, leaving: list[int], tmp_path: Path
) -> None:
    deployment = deployment_of(exported, ALWAYS, share=0.5)
    with guarded(exported, deployment, tmp_path / "guard.json", here, raising(BUSY)) as edge:
        for dropped in range(1, BLIND + 3):
            edge.answers([exported.files[leaving[0]]])
            wait_until(lambda dropped=dropped: edge.totals["dropped_audits"] == dropped)
            assert len(edge.said) == (dropped >= BLIND)
        assert f"the newest {BLIND} audits have no result" in edge.said[0]


def test_an_outage_is_not_an_alarm_and_the_tests_go_on_after_it(
    exported: Exported, here: LocalCloud, tmp_path: Path
) -> None:
    class Failing:
        gone, last = False, None

        def infer(self, *given: Any) -> NDArray[np.float32]:
            if self.gone:
                raise GONE
            return here.infer(*given)

    cloud = Failing()
    made = decided(exported, ALL, cloud=True)
    without = decided(exported, ALL, cloud=False)
    deployment = deployment_of(exported, ALWAYS, share=float(made.on_edge.mean()))
    with guarded(exported, deployment, tmp_path / "guard.json", cloud) as edge:
        cloud.gone = True
        for _ in range(4):
            answers = edge.answers(exported.files)
            assert [answer["label"] for answer in answers] == without.label.tolist()
            assert {answer["place"] for answer in answers} == {"edge"}
        wait_until(lambda: edge.status["state"] == "paused")
        counted = edge.status["images"]
        assert counted < len(exported.files)
        assert edge.totals["risk_alarms"] + edge.totals["share_alarms"] == 0
        assert edge.said == []
        cloud.gone = False
        (answer,) = edge.answers([exported.files[int(np.flatnonzero(~made.on_edge)[0])]])
        assert answer["place"] == "cloud"
        assert edge.status["state"] == "watching"
        edge.answers([exported.files[int(np.flatnonzero(~made.on_edge)[0])]])
        assert edge.status["images"] > counted


def test_a_photograph_that_is_gone_spoils_nothing_but_its_audit(
    exported: Exported, leaving: list[int], tmp_path: Path
) -> None:
    class Lost(BytesIO):
        """A file that is gone once it was decoded."""

        lost = False

        def seek(self, *given: int) -> int:
            if self.lost:
                raise FileNotFoundError
            return super().seek(*given)

    deployment = deployment_of(exported, ALWAYS, share=0.5, payload="photograph")
    expected = decided(exported, ALL, cloud=True).label[leaving[0]]
    with guarded(exported, deployment, tmp_path / "guard.json", raising(GONE)) as edge:
        file = Lost(exported.files[leaving[0]].read_bytes())
        image = edge.runtime._preprocessing(edge.runtime._preprocessing.read(file))
        file.lost = True
        (result,) = edge.runtime.classify(image[None], [file])
        assert (result.label, result.on_edge) == (expected, True)
        assert edge.totals["dropped_audits"] == 1
        assert edge.status["state"] == "watching"


def test_the_edge_ends_though_the_cloud_of_audits_hangs(
    exported: Exported,
    here: LocalCloud,
    leaving: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audits, "REPLY_S", 0.2)
    monkeypatch.setattr(audits, "ENDING_S", 0.1)
    deployment = deployment_of(exported, ALWAYS, share=0.5)
    with (
        serving(black_hole) as server,
        HttpCloud(server.url, exported.graphs.id, background=True) as cloud,
    ):
        with guarded(exported, deployment, tmp_path / "guard.json", here, cloud) as edge:
            edge.answers([exported.files[image] for image in leaving[:ROOM]])
        assert edge.totals["audits"] == 0
        assert edge.totals["dropped_audits"] == edge.totals["kept"] == ROOM


def test_logits_of_another_network_are_not_an_answer(
    exported: Exported, here: LocalCloud, leaving: list[int], tmp_path: Path
) -> None:
    wrong = Fake(lambda _: np.zeros((1, len(CLASSES) + 1), np.float32))
    deployment = deployment_of(exported, ALWAYS, share=0.5)
    with guarded(exported, deployment, tmp_path / "guard.json", here, wrong) as edge:
        edge.answers([exported.files[leaving[0]]])
        wait_until(lambda: edge.totals["dropped_audits"] == 1)
        assert edge.totals["audits"] == 0

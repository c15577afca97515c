"""Odd pictures, one by one and all in one run: each is shown or named, and nothing ends."""

import http.client
import json
import logging
import subprocess
import sys
from contextlib import closing
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.fuzzing import images as fuzzing
from eenn.data.augmentation import Augmentation
from eenn.data.datamodule import TrainingImages
from eenn.data.datasets import FolderImages
from eenn.errors import EennError
from eenn.offload.cloud.app import make_app
from eenn.offload.cloud.settings import Settings
from eenn.offload.edge import command
from eenn.offload.edge.answers import as_json
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.protocol.decoding import decode_response
from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.wire import IMAGE_MODEL, Request
from eenn.preprocess import FORMATS, UnreadableImage, decoded_pixels, read_image
from tests.odd_images import RGB, Odd, bad, good, plain_png, saved
from tests.offload.cloud.asgi import InProcess
from tests.offload.edge.edge_service import P_TAR, runtime_of, serving
from tests.offload.exported import PREPROCESSING, Exported
from tests.offload.patience import PATIENCE_S

PEAK_MIB, FUZZED = 300, 250
TIMES = ("latency_ms", "preprocess_ms", "classifier_ms", "stages_ms", "cloud_ms")
# Files that are images by their names or beginnings; the one that is not is a float map.
KNOWN_AS_IMAGES = [name for name in bad() if not name.endswith(".pfm")]


def assert_shown(image: Image.Image, odd: Odd) -> None:
    assert image.mode == "RGB"
    shown = np.asarray(image).astype(int)
    expected = odd.pixels if odd.pixels.ndim == 3 else np.stack([odd.pixels] * 3, -1)
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).max() <= odd.tolerance


@pytest.mark.parametrize("name", good())
def test_an_odd_picture_is_shown_as_its_clean_twin(name: str, recwarn: Any) -> None:
    assert_shown(read_image(BytesIO(good()[name].data)), good()[name])
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("name", bad())
def test_a_bad_picture_is_refused_by_name(name: str, tmp_path: Path, recwarn: Any) -> None:
    file = tmp_path / name
    file.write_bytes(bad()[name])
    with pytest.raises(UnreadableImage) as refused:
        read_image(file, 32)
    assert str(refused.value).startswith(f"{file} is not a readable image (")
    assert "\n" not in str(refused.value)
    assert [str(warning.message) for warning in recwarn] == []
    with pytest.raises(UnreadableImage, match=r"^the file is not a readable image") as refused:
        read_image(BytesIO(bad()[name]), 32)
    assert " at 0x" not in str(refused.value)
    if not name.startswith("bad_half"):  # their headers are whole
        with pytest.raises(UnreadableImage):
            decoded_pixels(file, 32)


def test_bad_pictures_take_little_memory(tmp_path: Path) -> None:
    for name, data in bad().items():
        (tmp_path / name).write_bytes(data)
    program = f"""
import resource, sys
from pathlib import Path
from eenn.preprocess import UnreadableImage, read_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for file in Path({str(tmp_path)!r}).iterdir():
    try:
        read_image(file, 32)
    except UnreadableImage:
        continue
    sys.exit(f"{{file}} was read")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < PEAK_MIB


@pytest.mark.parametrize("target", [fuzzing.exif_blocks, fuzzing.tiff_tags, fuzzing.image_bytes])
def test_damage_is_harmless(target: Any, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(FUZZED):
        target(Random(f"{target.__name__} {number}"))
    capfd.readouterr()  # libtiff writes to stderr by itself


@pytest.mark.parametrize(
    "error", [RecursionError, MemoryError, KeyError(5), ZeroDivisionError, UserWarning("odd")]
)
def test_whatever_a_decoder_raises_is_an_unreadable_image(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    file = tmp_path / "odd.jpg"
    file.write_bytes(saved(Image.fromarray(RGB), "JPEG"))
    with pytest.raises(UnreadableImage, match=r"odd\.jpg is not a readable image \(.+\)"):
        read_image(file)


def test_decoded_pixels_are_those_that_are_decoded() -> None:
    image = Image.fromarray(np.resize(RGB, (400, 640, 3)))
    for options, side, pixels in (
        ({}, 50, 80 * 50),
        ({}, 51, 160 * 100),
        ({}, None, 640 * 400),
        ({"progressive": True}, 50, 640 * 400),  # its coefficients are all held
    ):
        file = BytesIO(saved(image, "JPEG", **options))
        assert decoded_pixels(file, side) == pixels
        assert read_image(file, side).size == ((80, 50) if side == 50 else image.size) or side == 51
    assert decoded_pixels(BytesIO(saved(image, "PNG")), 50) == 640 * 400


def test_the_formats_are_those_that_the_message_names() -> None:
    with pytest.raises(UnreadableImage) as refused:
        read_image(BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n"))
    named = str(refused.value).upper()
    assert all(name in named for name in FORMATS)


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in TIMES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All odd pictures, good and bad, in one folder."""
    folder = tmp_path_factory.mktemp("odd")
    for name, data in [*((name, odd.data) for name, odd in good().items()), *bad().items()]:
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def expected(exported: Exported) -> dict[str, dict[str, Any]]:
    """The answers for the clean twins of the good pictures that are shown exactly."""
    runtime = runtime_of(exported, None)
    exact = {name: odd for name, odd in good().items() if odd.tolerance == 0}
    return {name: answer_for(runtime, odd.twin) for name, odd in exact.items()}


def answer_for(runtime: EdgeRuntime, image: bytes) -> dict[str, Any]:
    return without_times(as_json(runtime.classify_file(BytesIO(image))))


def assert_answered(answers: dict[str, dict[str, Any]], expected: dict[str, Any]) -> None:
    assert answers.keys() == good().keys()
    for name, answer in expected.items():
        assert without_times(answers[name]) == answer, name


def run_edge(exported: Exported, *arguments: object) -> int:
    given = ["--artifact", exported.path, "--p-tar", P_TAR, "--json", *arguments]
    with pytest.raises(SystemExit) as stop:
        command.main([str(argument) for argument in given])
    return int(stop.value.code or 0)


def answers_of(lines: str) -> dict[str, dict[str, Any]]:
    answers = [json.loads(line) for line in lines.splitlines()]
    return {Path(answer.pop("file")).name: answer for answer in answers}


def test_the_edge_answers_all_of_them_in_one_run(
    exported: Exported, folder: Path, expected: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_edge(exported, *sorted(folder.iterdir())) == 1
    captured = capfd.readouterr()
    assert_answered(answers_of(captured.out), expected)
    for name in bad():
        assert f"{name} is not a readable image" in captured.err


class Killed(KeyboardInterrupt):
    """The end of a watch."""


def test_a_watch_answers_all_of_them_over_a_restart(
    exported: Exported,
    folder: Path,
    expected: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answers = [], tmp_path / "answers.jsonl"
    begin = EdgeRuntime.begin

    def begin_or_die(runtime: EdgeRuntime, file: str) -> Any:
        asked.append(file)
        if len(asked) == len(good()):
            raise Killed
        return begin(runtime, file)

    monkeypatch.setattr(EdgeRuntime, "begin", begin_or_die)
    monkeypatch.setattr(command, "POLL_S", 0)
    run_edge(exported, "--watch", folder, "--output", answers)
    assert 0 < len(answers.read_text().splitlines()) < len(good())
    polls = iter(range(3))  # at the second all files have settled

    def poll_or_die(_: float) -> None:
        if next(polls, None) is None:
            raise Killed

    monkeypatch.setattr("time.sleep", poll_or_die)
    run_edge(exported, "--watch", folder, "--output", answers)
    captured = capfd.readouterr()
    found = answers_of(answers.read_text())
    assert len(found) == len(answers.read_text().splitlines())
    for answer in found.values():
        del answer["artifact_id"]
    assert_answered(found, expected)
    for name in KNOWN_AS_IMAGES:
        assert f"{folder / name} is not a readable image" in captured.err
    assert "not images, and left out: 1 .pfm" in captured.err


@pytest.mark.clock
def test_the_edge_over_http_answers_all_of_them(
    exported: Exported, expected: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(runtime_of(exported, None)) as server:
        host, port = server.server_address[:2]
        for name, data in [*((n, odd.data) for n, odd in good().items()), *bad().items()]:
            connection = http.client.HTTPConnection(str(host), port, timeout=PATIENCE_S)
            with closing(connection):
                connection.request("POST", "/classify", data)
                response = connection.getresponse()
                answer = json.loads(response.read())
            assert response.status == (200 if name in good() else 400), (name, answer)
            if name in expected:
                assert without_times(answer) == expected[name], name
    assert "Traceback" not in capfd.readouterr().err


def test_the_cloud_answers_all_of_them(
    exported: Exported, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(read_timeout_ms=1e3 * PATIENCE_S, timeout_ms=1e3 * PATIENCE_S)
    with InProcess(make_app([exported.path], settings)) as cloud:

        def ask(*files: bytes) -> Any:
            tensor = np.empty(len(files), object)
            tensor[:] = files
            body, headers = encode_request(Request({"image": tensor}, {}, {"logits": True}))
            return cloud("POST", f"/v2/models/{IMAGE_MODEL}/infer", [body], headers)

        for name, odd in good().items():
            reply = ask(odd.data, odd.twin)
            assert reply.status == 200, (name, reply.body)
            logits = decode_response(reply.body, reply.headers).outputs["logits"]
            if odd.tolerance == 0:
                np.testing.assert_allclose(*logits, atol=1e-4 * np.abs(logits).max())
        for name, data in bad().items():
            assert ask(plain_png(), data).status == 400, name
        assert ask(plain_png()).status == 200


def test_training_data_leave_out_the_bad_ones_alone(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "odd").symlink_to(folder)
    with caplog.at_level(logging.WARNING):
        source = FolderImages(tmp_path / "all", on_error="skip")
    assert {Path(name).name for name in source.sample_ids} == good().keys()
    assert set(source.skipped) == {f"odd/{name}" for name in KNOWN_AS_IMAGES}
    assert "not images, and left out: 1 .pfm" in caplog.text
    assert f"left out {len(source.skipped)}: " in caplog.text
    indices = np.arange(len(source.sample_ids))
    images = TrainingImages(source, indices, PREPROCESSING, Augmentation())
    for index in indices.tolist():
        assert images[index, 5][0].isfinite().all()
    with pytest.raises(EennError, match=f"{len(source.skipped)} unreadable images"):
        FolderImages(tmp_path / "all")

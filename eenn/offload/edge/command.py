"""The command `eenn-edge`: classifies image files, a watched folder, or what is posted over HTTP.

eenn-edge --artifact DIR photo.jpg
eenn-edge --artifact DIR --cloud https://host:8000 --token-file F --watch DIR --output FILE
eenn-edge --artifact DIR --serve 8080
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from eenn.artifact.manifest import Manifest, read_manifest
from eenn.cli import one_line_errors
from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN
from eenn.exits.policies import POLICIES, make_policy
from eenn.offload.edge.answers import AnswerFile, as_json, as_line
from eenn.offload.edge.clouds import Cloud
from eenn.offload.edge.runtime import EdgeRuntime, asked_for
from eenn.offload.graphs.index import PRECISIONS
from eenn.offload.protocol.errors import OffloadError

POLL_S = 0.3
INTERRUPTED = 130  # what shells report for a program that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> None:
    """Classify what the command line names, and end the program.

    The exit code is 0 if all images were answered, or once it is stopped where that is the end.
    """
    given = _parsed(arguments)
    with one_line_errors(), _terminable():
        try:
            code = _run(given)
        except KeyboardInterrupt:
            code = INTERRUPTED if given.images else 0
        except BrokenPipeError:
            # Whoever read the answers has left, as `head` does; Python would flush into nothing.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
    raise SystemExit(code)


def _run(given: argparse.Namespace) -> int:
    manifest = read_manifest(given.artifact)
    with _cloud(given, manifest) as cloud:
        runtime = _runtime(given, manifest, cloud)
        if given.serve is not None:
            return _serve(given, runtime)
        return _classify(given, runtime)


def _classify(given: argparse.Namespace, runtime: EdgeRuntime) -> int:
    """Answer all files, one line each; returns the exit code."""
    code = 0
    with _output(given.output, runtime.manifest) as output:
        answered = output.answered if output else set()
        if given.watch is None:
            files: Iterable[str] = [file for file in given.images if file not in answered]
        else:
            files = _appearing(given.watch, answered)
        for file in files:
            try:
                result = runtime.classify_file(file)
            except EennError as error:
                print(f"error: {error}", file=sys.stderr, flush=True)
                code = 1
                continue
            answer = as_json(result, runtime)
            if output:
                output.append(file, answer)
            answered.add(file)
            line = json.dumps({"file": file, **answer}) if given.json else as_line(file, result)
            print(line, flush=True)
    return code


def _appearing(folder: Path, answered: Container[str]) -> Iterator[str]:
    """Files of a folder, for as long as the process lives."""
    # Imported where it is used, as below: a device that classifies one file waits for no more.
    from eenn.offload.edge.watch import NewImages

    images = NewImages(folder, answered)
    while True:
        yield from images.poll()
        time.sleep(POLL_S)


def _serve(given: argparse.Namespace, runtime: EdgeRuntime) -> int:
    from eenn.offload.edge.server import EdgeServer

    settings = {
        "policy": given.policy,
        "p_tar": given.p_tar,
        "experts": given.experts,
        "precision": given.precision,
        "deadline_ms": given.deadline_ms,
    }
    with EdgeServer(given.host, given.serve, runtime, settings) as server:
        print(f"listening on {server.url}", flush=True)
        server.serve_forever()
    return 0


def _runtime(given: argparse.Namespace, manifest: Manifest, cloud: Cloud | None) -> EdgeRuntime:
    branches = len(manifest.exits) - 1
    weights = manifest.validation_accuracy[:branches]
    return EdgeRuntime(
        given.artifact,
        make_policy(given.policy, {"p_tar": given.p_tar, "weights": weights}),
        range(branches) if given.active is None else given.active,
        cloud,
        given.precision,
        given.threads,
        given.deadline_ms,
        experts=given.experts,
    )


@contextmanager
def _cloud(given: argparse.Namespace, manifest: Manifest) -> Iterator[Cloud | None]:
    """The cloud that the command line names; if it cannot be asked now, that is said once."""
    if given.cloud is None:
        yield None
        return
    from eenn.offload.client.http_cloud import HttpCloud

    token = given.token_file.read_text().strip() if given.token_file else None
    with HttpCloud(
        given.cloud,
        manifest.id,
        precision=given.payload or "fp32",
        token=token,
        ca_file=given.ca_file,
    ) as cloud:
        try:
            deadline = time.monotonic() + given.deadline_ms / 1e3
            cloud.check(deadline, asked_for(manifest, given.experts))
        except OffloadError as error:
            print(f"warning: {error}; the edge answers meanwhile", file=sys.stderr, flush=True)
        yield cloud


def _output(path: Path | None, manifest: Manifest) -> AnswerFile | AbstractContextManager[None]:
    return nullcontext() if path is None else AnswerFile(path, manifest.id)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, which service managers send, ends the program as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="eenn-edge",
        usage="eenn-edge --artifact DIR [options] (IMAGE ... | --watch DIR | --serve PORT)",
        description="Classify images on this device, and ask the cloud about those that no branch "
        "is sure of. Without a cloud the last active branch answers.",
    )
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="image files")
    add("--artifact", required=True, metavar="DIR", help="artifact with exported graphs")
    add(
        "--experts",
        default=PLAIN,
        help="whose heads answer: plain, those of a kind of distortion, or auto, as the distortion "
        "classifier finds (%(default)s)",
    )

    group = parser.add_argument_group("instead of image files")
    group.add_argument("--watch", type=Path, metavar="DIR", help="files that appear in a folder")
    group.add_argument(
        "--serve", type=int, metavar="PORT", help="HTTP: POST /classify, GET /health, and a page"
    )
    group.add_argument("--host", default="127.0.0.1", help="to serve at (%(default)s)")

    group = parser.add_argument_group("when an image leaves")
    group.add_argument("--policy", choices=POLICIES, default="confidence", help="(%(default)s)")
    group.add_argument("--p-tar", type=float, default=0.8, help="threshold (%(default)s)")
    group.add_argument(
        "--active",
        type=_branches,
        metavar="1,2,3",
        help="branches to evaluate, or none, which leaves all to the cloud (all)",
    )

    group = parser.add_argument_group("the cloud")
    group.add_argument("--cloud", metavar="URL", help="https://host:port of eenn-cloud")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="holds the bearer token")
    group.add_argument("--ca-file", metavar="FILE", help="certificates to trust, PEM")
    group.add_argument(
        "--payload", choices=("fp32", "fp16", "uint8"), help="features on the wire (fp32)"
    )
    group.add_argument(
        "--deadline-ms",
        type=_positive,
        default=500.0,
        help="when the edge answers if the cloud has not (%(default)s)",
    )

    group = parser.add_argument_group("computing")
    group.add_argument("--precision", choices=PRECISIONS, default="fp32", help="(%(default)s)")
    group.add_argument("--threads", type=_whole, default=1, help="of each stage (%(default)s)")

    group = parser.add_argument_group("answers")
    group.add_argument("--json", action="store_true", help="print a JSON object per line")
    group.add_argument(
        "--output",
        type=Path,
        metavar="FILE.jsonl",
        help="append every answer; files that are answered there are left out",
    )
    given = parser.parse_args(arguments)
    if bool(given.images) + (given.watch is not None) + (given.serve is not None) != 1:
        parser.error("give image files, or --watch DIR, or --serve PORT")
    if given.cloud is None and (given.token_file or given.ca_file or given.payload):
        parser.error("--token-file, --ca-file and --payload are for a --cloud")
    if given.serve is not None and (given.json or given.output):
        parser.error("--json and --output are for images and --watch")
    return given


def _branches(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    try:
        return tuple(int(branch) - 1 for branch in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text}: allowed are branches counted from 1, such as 1,2,3, or none"
        ) from None


def _positive(text: str) -> float:
    if not text.replace(".", "", 1).isdecimal() or not float(text) > 0:
        raise argparse.ArgumentTypeError(f"{text}: allowed is a number above 0")
    return float(text)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: allowed is a whole number, 1 or more")
    return int(text)


if __name__ == "__main__":
    main()

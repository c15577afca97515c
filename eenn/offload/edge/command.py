"""The command `eenn-edge`: classifies images of files, a folder or HTTP, or measures the device.

eenn-edge --artifact DIR photo.jpg
eenn-edge --artifact DIR --cloud https://host:8000 --token-file F --watch DIR --output FILE
eenn-edge --artifact DIR --serve 8080
eenn-edge --artifact DIR --profile
"""

import argparse
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    suppress,
)
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eenn.artifact.deployment import Deployment
from eenn.artifact.manifest import Manifest, read_manifest
from eenn.cli import one_line_errors, printable
from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN_HEADS
from eenn.offload.edge.answers import AnswerFile, as_json, as_line
from eenn.offload.edge.arguments import parse_arguments
from eenn.offload.edge.clouds import Rest
from eenn.offload.edge.deploying import deployment_of
from eenn.offload.edge.flight import Flight
from eenn.offload.edge.rests import open_rest
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.graphs.index import PRECISIONS, Graphs

if TYPE_CHECKING:
    from eenn.offload.adaptation.field_log import FieldLog
    from eenn.offload.edge.kept_audits import KeptAudits
    from eenn.offload.edge.reload import Opening

POLL_S = 0.3
INTERRUPTED = 130  # exit code of shells for a program that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and end the program.

    The exit code is 0 if all images were answered, or if a watch or server was stopped.
    """
    given = parse_arguments(arguments)
    with one_line_errors(), _terminable():
        try:
            code = _run(given)
        except KeyboardInterrupt:
            code = INTERRUPTED if given.images or given.profile else 0
        except BrokenPipeError:
            code = 1
    raise SystemExit(code)


def _run(given: argparse.Namespace) -> int:
    if given.profile is not None:
        return _profile(given)
    with _field_log(given) as log, _kept_audits(given) as kept:
        opening = partial(_opened, given, log, kept)
        if given.serve is not None:
            return _serve(given, opening)
        with opening(_tell) as (_, runtime):
            return _classify(given, runtime)


@contextmanager
def _opened(
    given: argparse.Namespace,
    log: "FieldLog | None",
    kept: "KeptAudits | None",
    say: Callable[[str], None],
) -> Iterator[tuple[Deployment, EdgeRuntime]]:
    """Read the deployment and report it; open a runtime and its rest."""
    manifest = read_manifest(given.artifact)
    deployment, said = deployment_of(given, manifest)
    say(said)
    with ExitStack() as opened:
        rest = opened.enter_context(open_rest(given, manifest, deployment, say))
        runtime = _runtime(given, deployment, rest)
        if deployment.guard is not None or log is not None:
            # Imported here, and likewise below, so that a device that classifies one file starts
            # faster.
            from eenn.offload.edge.watching import open_watcher

            watching = open_watcher(given, manifest, deployment, runtime, log, kept, say)
            runtime.watcher = opened.enter_context(watching)
        yield deployment, runtime


def _classify(given: argparse.Namespace, runtime: EdgeRuntime) -> int:
    """Answer all files, one line each; return the exit code."""
    code, watching = 0, given.watch is not None
    with (
        _output(given.output, runtime.manifest) as output,
        Flight(runtime, given.in_flight) as flight,
    ):
        answered = output.answered if output else set()
        if output and output.bad_lines:
            _tell(
                f"warning: {given.output}: lines without an answer of this network: "
                f"{len(output.bad_lines)}, the first is line {output.bad_lines[0]}; their images "
                "are answered again"
            )
        for files in _appearing(given.watch, answered) if watching else [given.images]:
            # A file that is given twice is answered once.
            new = [file for file in dict.fromkeys(files) if file not in answered]
            for file, coming in flight.answers(new):
                try:
                    result = coming.result()
                    answer = as_json(result)
                    if output:
                        _write(partial(output.append, file, answer), watching)
                except Exception as error:
                    _tell(f"error: {_fault(file, error)}")
                    code = 1
                    continue
                answered.add(file)
                line = json.dumps({"file": file, **answer}) if given.json else as_line(file, result)
                _print(line, watching)
            if output:
                _write(output.sync, watching)
    return code


def _appearing(folder: Path, answered: Container[str]) -> Iterator[list[str]]:
    """Yield new image files of a folder, poll by poll, without end."""
    from eenn.image_file import counted_suffixes, suffix_of
    from eenn.offload.edge.watch import NewImages

    images = NewImages(folder, answered)
    said: set[str] = set()
    while True:
        yield images.poll()
        if {suffix_of(path) for path in images.others} - said:
            said |= {suffix_of(path) for path in images.others}
            others = counted_suffixes(images.others)
            _tell(f"warning: not images, and left out: {others}")
        time.sleep(POLL_S)


def _write(write: Callable[[], None], watching: bool) -> None:
    """Write an answer; while watching, try again until a full disk has room."""
    said = False
    while True:
        try:
            return write()
        except BrokenPipeError:
            raise
        except (EennError, OSError) as error:
            if not watching:
                raise
            if not said:
                _tell(f"error: {error}; trying again until there is room")
            said = True
            time.sleep(POLL_S)


def _print(line: str, watching: bool) -> None:
    """Print an answer.

    Raises:
        BrokenPipeError: the reader of the answers has ended, as `head` does.
        EennError: the output cannot be written, for example on a full disk.
    """
    try:
        print(printable(line))
        # Python keeps unwritten output for the next flush.
        _write(sys.stdout.flush, watching)
    except OSError as error:
        # Otherwise Python would flush again at its end, and report the error once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise EennError(f"cannot print the answers: {error.strerror}") from error


def _fault(file: str, error: Exception) -> str:
    """Word the error that kept a file from being answered."""
    if isinstance(error, EennError):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{file}: {type(error).__name__}: {error}; a bug, in {where.filename}, line {where.lineno}"
    )


def _tell(message: str) -> None:
    # stderr may go to a file on a full disk; that must not end the program.
    with suppress(OSError):
        print(printable(message), file=sys.stderr, flush=True)


def _serve(given: argparse.Namespace, opening: "Opening") -> int:
    from eenn.offload.edge.reload import serve_reloading

    with serve_reloading(
        given.deployment or given.plans, opening, given.host, given.serve, _tell
    ) as server:
        print(f"listening on {server.url}", flush=True)
        server.serve_forever()
    return 0


def _profile(given: argparse.Namespace) -> int:
    """Measure this device, and write and print its profile."""
    from eenn.offload.edge.profiling import measure, summary

    if given.profile.exists():
        raise EennError(
            f"{given.profile} exists already and is never overwritten; move it or choose another: "
            "--profile FILE.json"
        )
    folder = given.profile.parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise EennError(
            f"{folder} is not a folder that can be written to; choose another: --profile FILE.json"
        )
    precision, experts = given.precision or PRECISIONS[0], given.experts or PLAIN_HEADS
    graphs = Graphs.read(given.artifact)
    profile = measure(graphs, given.images, precision, experts, given.threads)
    profile.save(given.profile)
    for line in summary(profile, len(given.images)):
        _print(line, watching=False)
    _print(f"wrote {given.profile}", watching=False)
    return 0


def _runtime(given: argparse.Namespace, deployment: Deployment, rest: Rest) -> EdgeRuntime:
    return EdgeRuntime(
        given.artifact,
        deployment.policy,
        deployment.active,
        rest,
        deployment.precision,
        given.threads,
        deployment.deadline_ms,
        experts=deployment.experts,
        temperature=deployment.temperature,
    )


def _field_log(given: argparse.Namespace) -> "AbstractContextManager[FieldLog | None]":
    if given.log is None:
        return nullcontext()
    from eenn.offload.adaptation.field_log import FieldLog

    return FieldLog(given.log)


def _kept_audits(given: argparse.Namespace) -> "AbstractContextManager[KeptAudits | None]":
    if given.keep_audits is None:
        return nullcontext()
    from eenn.offload.edge.kept_audits import MOST_BYTES, KeptAudits

    return KeptAudits(given.keep_audits, given.keep_at_most or MOST_BYTES, _tell)


def _output(path: Path | None, manifest: Manifest) -> AnswerFile | AbstractContextManager[None]:
    return nullcontext() if path is None else AnswerFile(path, manifest.id)


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM, which service managers send, end the program like Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()

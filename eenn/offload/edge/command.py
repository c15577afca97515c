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
import traceback
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

from eenn.artifact.deployment import Deployment
from eenn.artifact.manifest import Manifest, read_manifest
from eenn.cli import one_line_errors, printable
from eenn.errors import EennError
from eenn.offload.edge.answers import AnswerFile, as_json, as_line
from eenn.offload.edge.arguments import parse_arguments
from eenn.offload.edge.clouds import Rest
from eenn.offload.edge.deploying import deployment_of
from eenn.offload.edge.rests import open_rest
from eenn.offload.edge.runtime import EdgeRuntime

POLL_S = 0.3
INTERRUPTED = 130  # what shells report for a program that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> None:
    """Classify what the command line names, and end the program.

    The exit code is 0 if all images were answered, or once it is stopped where that is the end.
    """
    given = parse_arguments(arguments)
    with one_line_errors(), _terminable():
        try:
            code = _run(given)
        except KeyboardInterrupt:
            code = INTERRUPTED if given.images else 0
        except BrokenPipeError:
            code = 1
    raise SystemExit(code)


def _run(given: argparse.Namespace) -> int:
    if given.serve is not None:
        return _serve(given)
    with _opened(given, _tell) as (_, runtime):
        return _classify(given, runtime)


@contextmanager
def _opened(
    given: argparse.Namespace, say: Callable[[str], None]
) -> Iterator[tuple[Deployment, EdgeRuntime]]:
    """Settle the deployment and say which it is; open all that it needs to answer."""
    manifest = read_manifest(given.artifact)
    deployment, said = deployment_of(given, manifest)
    say(said)
    with open_rest(given, manifest, deployment, say) as rest:
        yield deployment, _runtime(given, deployment, rest)


def _classify(given: argparse.Namespace, runtime: EdgeRuntime) -> int:
    """Answer all files, one line each; returns the exit code."""
    code, watching = 0, given.watch is not None
    with _output(given.output, runtime.manifest) as output:
        answered = output.answered if output else set()
        if output and output.bad_lines:
            _tell(
                f"warning: {given.output}: lines without an answer of this network: "
                f"{len(output.bad_lines)}, the first is line {output.bad_lines[0]}; their images "
                "are answered again"
            )
        for files in _appearing(given.watch, answered) if watching else [given.images]:
            # A file that is given twice is answered by the time it comes again.
            for file in (file for file in files if file not in answered):
                try:
                    result = runtime.classify_file(file)
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
    """Files of a folder, poll by poll, for as long as the process lives."""
    # Imported where it is used, as below: a device that classifies one file waits for no more.
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
    """Write an answer, in a watch again and again: a full disk has room later."""
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
                _tell(f"error: {error}; it is tried again until there is room")
            said = True
            time.sleep(POLL_S)


def _print(line: str, watching: bool) -> None:
    """Print an answer.

    Raises:
        BrokenPipeError: whoever read the answers has left, as `head` does.
        EennError: the disk that the output goes to is full, or the like.
    """
    try:
        print(printable(line))
        # What could not be written is kept for the next time.
        _write(sys.stdout.flush, watching)
    except OSError as error:
        # Python would flush again in the end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise EennError(f"cannot print the answers: {error.strerror}") from error


def _fault(file: str, error: Exception) -> str:
    """What kept a file from being answered."""
    if isinstance(error, EennError):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{file}: {type(error).__name__}: {error}; a bug, in {where.filename}, line {where.lineno}"
    )


def _tell(message: str) -> None:
    # On a full disk the file that stderr goes to takes nothing either; that ends nothing.
    with suppress(OSError):
        print(printable(message), file=sys.stderr, flush=True)


def _serve(given: argparse.Namespace) -> int:
    from eenn.offload.edge.reload import serve_reloading

    opening = partial(_opened, given)
    with serve_reloading(given.deployment, opening, given.host, given.serve, _tell) as server:
        print(f"listening on {server.url}", flush=True)
        server.serve_forever()
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


if __name__ == "__main__":
    main()

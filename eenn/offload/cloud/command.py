"""The command `eenn-cloud`, and `running`, which starts it as a child process.

    eenn-cloud --artifact DIR [--artifact DIR2 ...]      (or: python -m eenn.offload.cloud.command)

SIGTERM ends the server in order: it reports that it is not ready, refuses new requests, answers the
admitted ones, and exits. A second signal ends it at once.
"""

import argparse
import asyncio
import os
import re
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryFile
from threading import Thread, Timer
from types import FrameType

import uvicorn

from eenn.cli import one_line_errors
from eenn.errors import EennError
from eenn.offload.cloud.admission import is_loopback
from eenn.offload.cloud.app import CloudService, make_app
from eenn.offload.cloud.arrival import GatedServer
from eenn.offload.cloud.gate import Gate
from eenn.offload.cloud.settings import (
    KEEP_ALIVE_S,
    MAX_CONNECTIONS,
    MAX_REFUSED_CONNECTIONS,
    OTHER_FILES,
    SHUTDOWN_S,
    SWITCH_INTERVAL_S,
    Settings,
)
from eenn.programs import CLOUD

READY = "listening on "
START_S, STOP_S = 120.0, 60.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command: serve until a signal comes."""
    options = vars(_parser().parse_args(arguments))
    with one_line_errors():
        serve(
            options.pop("artifact"),
            host=options.pop("host"),
            port=options.pop("port"),
            token_file=options.pop("token_file"),
            tls_cert=options.pop("tls_cert"),
            tls_key=options.pop("tls_key"),
            ends_with_stdin=options.pop("ends_with_stdin"),
            settings=Settings(**options),
        )


@dataclass(frozen=True)
class RunningCloud:
    """A cloud process that `running` has started."""

    url: str
    process: Popen[str]


@contextmanager
def running(artifact_dirs: Sequence[str | Path], **options: object) -> Iterator[RunningCloud]:
    """Run a cloud in its own process, on a free port of loopback, until the block ends.

    The cloud also ends when this process ends for any reason. Its log is printed afterwards.

    Args:
        options: options of the command line, as in `running(dirs, queue=4, token_file=path)`.

    Raises:
        EennError: the cloud did not start; the message says why.
    """
    command = [sys.executable, "-m", __name__, "--port", "0", "--ends-with-stdin"]
    for name, value in [("artifact", path) for path in artifact_dirs] + [*options.items()]:
        command += [f"--{name.replace('_', '-')}", str(value)]
    # The child finds the packages that this process has found.
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with (
        TemporaryFile("w+") as log,
        Popen(command, stdin=PIPE, stdout=PIPE, stderr=log, text=True, env=env) as process,
    ):
        assert process.stdout
        with _killed_after(START_S, process):
            line = process.stdout.readline()
        if not line.startswith(READY):
            process.kill()
            log.seek(0)
            raise EennError(f"the cloud did not start: {log.read().strip()}")
        try:
            yield RunningCloud(line.removeprefix(READY).strip(), process)
        finally:
            process.terminate()
            with _killed_after(STOP_S, process):
                process.wait()
            log.seek(0)
            sys.stderr.write(log.read())


@contextmanager
def _killed_after(seconds: float, process: Popen[str]) -> Iterator[None]:
    timer = Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def serve(
    artifact_dirs: Sequence[Path],
    host: str,
    port: int,
    token_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    ends_with_stdin: bool,
    settings: Settings,
) -> None:
    """Serve artifacts until a signal comes; arguments as in the command line's help.

    Raises:
        EennError: only one file of TLS is given, the token would travel unencrypted, or the address
            is taken; see `make_app`.
        OSError: a file cannot be read.
    """
    token = token_file.read_text().strip() if token_file else None
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise EennError(
            f"{token_file} has no token; allowed is one line of ASCII without spaces; write one, "
            "for example with `openssl rand -hex 32`"
        )
    if (tls_cert is None) != (tls_key is None):
        raise EennError("TLS needs two files; give both --tls-cert and --tls-key")
    if token and not tls_cert and not is_loopback(host):
        raise EennError(
            f"the token would travel to {host} unencrypted; give --tls-cert and --tls-key, or "
            "listen on 127.0.0.1 behind a proxy that does TLS"
        )
    is_local = token is None and is_loopback(host)
    app = make_app(artifact_dirs, settings, token, is_local)
    service = app.state.service
    tls = _tls_context(tls_cert, tls_key) if tls_cert and tls_key else None
    gate = Gate(_connections(), service.note)
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with _bound(host, port) as sock:
        if not token and not is_loopback(host):
            print(f"warning: without --token-file {host} serves everybody", file=sys.stderr)
        if ends_with_stdin:
            Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
        _Server(config, sock, gate, tls, service).run([])


class _Server(GatedServer):
    """A server that prints its URL, and answers admitted requests before it closes its sockets."""

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        gate: Gate,
        tls: ssl.SSLContext | None,
        service: CloudService,
    ) -> None:
        super().__init__(config, listener, gate, tls)
        self._service = service
        host, port, *_ = listener.getsockname()
        self._url = f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"{READY}{self._url}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._service.is_open:
            self._service.is_open = False
            asyncio.run_coroutine_threadsafe(self._drain(), self._loop)
        else:
            super().handle_exit(sig, frame)

    async def _drain(self) -> None:
        await self._service.drain()
        self.should_exit = True


def _tls_context(cert: Path, key: Path) -> ssl.SSLContext:
    for file in (cert, key):
        file.open().close()  # ssl's own error names no file.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        raise EennError(
            f"{cert} and {key} are not a certificate and its key in PEM: {error}"
        ) from error
    return context


def _connections() -> int:
    """Raise the limit of open files; return the number of connections that it allows."""
    wanted = MAX_CONNECTIONS + MAX_REFUSED_CONNECTIONS + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_CONNECTIONS
    files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    connections = files * MAX_CONNECTIONS // wanted
    print(
        f"raised the limit of open files from {soft} to {files}, for {connections} connections",
        file=sys.stderr,
    )
    return connections


def _bound(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise EennError(f"port {port}: allowed are 1 to 65535, and 0 for any free port")
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind)
    except OSError as error:
        raise EennError(
            f"--host {host} is not an address: {error.strerror}; give one of this machine's"
        ) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise EennError(
            f"cannot listen on {host}, port {port}: {error.strerror}; --port 0 takes a free port"
        ) from error
    return sock


def _end_with_stdin() -> None:
    # sys.stdin is avoided, because this thread would hold its lock when the process ends.
    while os.read(0, 2**16):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eenn-cloud", description="Serve the cloud's part of artifacts over HTTP."
    )
    add = parser.add_argument
    add("--version", action="version", version=CLOUD.version)
    add("--artifact", action="append", required=True, type=Path, metavar="DIR",
        help="artifact with exported graphs; may be given more than once")  # fmt: skip
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add(
        "--port",
        default=8000,
        type=int,
        help="port to listen on; 0 takes any free one (%(default)s)",
    )
    add("--token-file", type=Path, help="file with the bearer token that clients must send")
    add("--tls-cert", type=Path, help="certificate chain, PEM")
    add("--tls-key", type=Path, help="the certificate's key, PEM")
    add("--ends-with-stdin", action="store_true", help="end when standard input is closed")
    for option in fields(Settings):
        add(f"--{option.name.replace('_', '-')}", default=option.default, type=type(option.default),
            help=f"{option.metadata['help']} (%(default)s)")  # fmt: skip
    return parser


if __name__ == "__main__":
    main()

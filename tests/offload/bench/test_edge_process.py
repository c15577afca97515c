"""A live edge that does not start, or does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from eenn.errors import EennError
from eenn.offload.bench.edge_process import LiveEdge, serving_edge


def test_an_edge_that_does_not_start_says_why(tmp_path: Path) -> None:
    starting = serving_edge(
        tmp_path / "none", tmp_path / "none.json", "http://127.0.0.1:9", tmp_path
    )
    with pytest.raises(EennError, match=r"the edge did not start: error: .*none"), starting:
        pass


@contextmanager
def answering(status: int, content: bytes) -> Iterator[str]:
    """The URL of a server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [(503, b"busy", "status 503: b'busy'"), (200, b"{}", "label"), (200, b"[", "Expecting value")],
)
def test_an_edge_that_does_not_answer_is_an_error(status: int, content: bytes, said: str) -> None:
    with answering(status, content) as url:
        edge = LiveEdge(url, Path("edge.log"))
        with pytest.raises(EennError, match=r"did not answer .* see edge.log") as raised:
            edge.classify(b"PNG")
        edge.close()
    assert said in str(raised.value)
    with pytest.raises(EennError, match=r"did not answer a photograph of the stream"):
        edge.classify(b"PNG")  # nobody is there any more

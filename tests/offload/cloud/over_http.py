"""A cloud's answers over HTTP, as somebody without a client of ours reads them."""

import json
import re
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.offload.patience import PATIENCE_S


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
    """Ask for a reply: its status and its JSON, or text."""
    request = Request(url, method=method, headers=headers, data=b"" if method == "POST" else None)
    try:
        with urlopen(request, timeout=PATIENCE_S) as reply:
            status, body = reply.status, reply.read().decode()
    except HTTPError as error:
        with error:
            status, body = error.code, error.read().decode()
    return status, json.loads(body) if body[:1] in "{[" else body


def counted(url: str, name: str) -> float:
    """Read one of the metrics of the server at `url`; 0 if it has none of that name."""
    _, text = get(f"{url}/metrics")
    found = re.search(rf"^{re.escape(name)} (.+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0

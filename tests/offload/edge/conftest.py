"""Fixtures that tests of `eenn-edge` share."""

from collections.abc import Callable

import pytest

from eenn.offload.edge import command
from tests.offload.edge.edge_command import NO_HURRY, P_TAR
from tests.offload.exported import Exported
from tests.offload.patience import make_patient


@pytest.fixture
def edge(
    exported: Exported, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, list[str], str]]:
    """Runs `eenn-edge` in this process: exit code, lines of stdout, stderr."""
    make_patient(monkeypatch)

    def run(*arguments: object) -> tuple[int, list[str], str]:
        given = ["--artifact", exported.path, "--p-tar", P_TAR, *NO_HURRY, *arguments]
        with pytest.raises(SystemExit) as stop:
            command.main([str(argument) for argument in given])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out.splitlines(), captured.err

    return run

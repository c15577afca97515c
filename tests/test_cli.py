"""What scripts print is one line that says what it holds, whatever a name holds."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eenn.cli import one_line_errors, printable
from eenn.errors import EennError


@given(st.text() | st.binary().map(lambda name: name.decode("utf-8", "surrogateescape")))
def test_any_text_becomes_one_line_that_any_terminal_takes(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\u00e9 \u4e16\U0001f4f7.jpg", "caf\u00e9 \u4e16\U0001f4f7.jpg"),
        ("a\x1b]0;b\x07", r"a\x1b]0;b\x07"),
        ("a\r\nb\u2028c", r"a\r\nb\u2028c"),
        ("\u202egpj.exe\u2066", r"\u202egpj.exe\u2066"),
        ("\udcff", r"\udcff"),
    ],
)
def test_only_what_does_not_show_as_itself_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("job", [None, "3 name=\x1b"])
def test_names_in_errors_forge_no_line(job: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with one_line_errors(job):
            raise EennError("a\nerror: b\x1b[2J is not an image")

    if job is None:
        with pytest.raises(SystemExit):
            fail()
    else:
        fail()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.endswith(": a\\nerror: b\\x1b[2J is not an image\n")
    assert "\x1b" not in said


def test_scripts_may_print_what_their_output_has_no_sign_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, "ascii", write_through=True))
    with one_line_errors():
        print("\u4e16\udcff")
    assert file.getvalue() == b"\\u4e16\\udcff\n"

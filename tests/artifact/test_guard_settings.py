"""Settings of the guard as text, and the numbers that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eenn.artifact.guard_settings import LEAST, GuardSettings
from eenn.errors import EennError

shares = st.floats(LEAST, 0.5)
audits = st.one_of(st.just(0), st.just(0.0), st.just(1), st.floats(LEAST, 1))


def test_the_defaults() -> None:
    assert str(GuardSettings()) == "risk=0.03,delta=0.1,audit=0.02"
    assert GuardSettings.parse("") == GuardSettings()


@given(shares, shares, audits)
def test_settings_come_back_from_their_text(risk: float, delta: float, audit: float) -> None:
    settings = GuardSettings(risk, delta, audit)
    assert GuardSettings.parse(str(settings)) == settings


@given(st.permutations(["risk=0.05", "delta=0.2", "audit=0.5"]), st.integers(0, 3))
def test_parts_may_be_left_out_and_come_in_any_order(parts: list[str], count: int) -> None:
    given = dict(part.split("=") for part in parts[:count])
    expected = GuardSettings(**{name: float(value) for name, value in given.items()})
    assert GuardSettings.parse(",".join(parts[:count])) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("risk", "risk"),
        ("risk=", "risk="),
        ("risk=much", "risk=much"),
        ("risk=0.1=0.2", "risk=0.1=0.2"),
        ("risk=0.1,risk=0.1", "risk=0.1"),
        ("audits=0.1", "audits=0.1"),
        ("risk=0.1 delta=0.1", "risk=0.1 delta=0.1"),
        ("0.03", "0.03"),
    ],
)
def test_other_texts_are_refused(text: str, part: str) -> None:
    with pytest.raises(EennError) as error:
        GuardSettings.parse(text)
    allowed = "risk=0.03,delta=0.1,audit=0.02, each of them once at most"
    assert str(error.value) == f"guard: {part}: allowed is {allowed}"


@pytest.mark.parametrize("name", ["risk", "delta"])
@pytest.mark.parametrize("value", [0, -0.1, 0.0009, 0.501, 1, 10**400, float("inf"), float("nan")])
def test_shares_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(EennError, match=f"guard: {name}={value}: allowed is 0.001 to 0.5"):
        GuardSettings(**{name: value})


@pytest.mark.parametrize("value", [-0.01, 0.0009, 1.001, 10**400, float("inf"), float("nan")])
def test_rates_of_audits_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(EennError, match=f"guard: audit={value}: allowed is 0, or 0.001 to 1"):
        GuardSettings(audit=value)


@pytest.mark.parametrize("name", ["risk", "delta", "audit"])
@pytest.mark.parametrize("value", ["0.03", True, None, [0.03]])
def test_what_is_not_a_number_is_refused(name: str, value: object) -> None:
    with pytest.raises(EennError, match=f"{name}=.*: allowed is a number"):
        GuardSettings(**{name: value})  # type: ignore[arg-type]


@given(st.text("risk=,0.1delta", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        settings = GuardSettings.parse(text)
    except EennError:
        return
    assert GuardSettings.parse(str(settings)) == settings

"""The committed comparison of exit rules keeps what its page says about it."""

from benchmarks.policies.rules import LEFT_OUT, REFERENCE, RULES
from benchmarks.readme.results import run_of

POLICIES = run_of("policies")
STRICT = "confidence, strict 10"


def test_every_rule_was_compared_at_every_budget() -> None:
    compared = {(row["branches"], row["cost"], row["budget"]) for row in POLICIES["points"]}
    assert len(compared) == 11
    assert len(POLICIES["points"]) == len(compared) * len(RULES)
    assert {row["rule"] for row in POLICIES["points"]} == set(RULES)
    assert POLICIES["reference"] == REFERENCE
    assert POLICIES["left_out"] == LEFT_OUT


def test_no_rule_is_a_point_better_at_equal_macs_beyond_doubt() -> None:
    for row in POLICIES["points"]:
        if row["cost"] == "macs" and row["gain"] is not None:
            assert row["gain_low"] < 0.01, row


def test_strict_exits_are_better_at_equal_latency() -> None:
    for row in POLICIES["points"]:
        if row["cost"] == "latency_ms" and row["rule"] == STRICT:
            assert row["gain"] > 0.01, row
            # With three branches at 10 ms the interval reaches 0.
            assert row["gain_low"] > (0 if row["branches"] == 5 else -0.005), row


def test_strict_exits_keep_more_images_than_earlyon_and_lose_less() -> None:
    fits = {(row["goal"], row["fit"]): row for row in POLICIES["peers"]}
    assert len(fits) == 15
    ours, theirs = fits[0.01, "strict 10, least latency"], fits[0.01, "earlyon 0.3.0"]
    assert ours["edge_probability"] > theirs["edge_probability"]
    assert ours["drop"] < theirs["drop"]


def test_the_edge_runtime_is_faster_than_earlyons_wrapper() -> None:
    for ratios in run_of("peer_time")["ratio"].values():
        assert min(ratios.values()) > 1.5

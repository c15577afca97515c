"""The benchmark of planners: problems with answers found by hand or by trying, and wrong ones."""

import json
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.planners.__main__ import main
from benchmarks.planners.graph import MOST_LAYERS, TIMED, Layers
from eenn.planning.planners.dads import HEAVY
from eenn.planning.table import FASTEST, Goal

# Two blocks of 10 ms; the cloud takes 1 ms for each. 1,000 bytes take 8 ms at 1 Mbps.
CHAIN = {
    "edge_ms": [10.0, 10.0],
    "cloud_ms": [1.0, 1.0],
    "payload_bytes": [2000, 500, 10],
    "link": {"bandwidth_mbps": 1.0, "rtt_ms": 2.0},
}
LAYERS = {
    "edge_ms": {"in": 0.0, "a": 9.0, "b": 40.0},
    "cloud_ms": {"in": None, "a": 11.0, "b": 9.0},
    "send_ms": {"in": 3.0, "a": 9.0},
    "links": [["in", "a"], ["a", "b"]],
}
EXITS = [
    {"after": 1, "head_ms": 1.0, "cloud_head_ms": 0.5, "accuracy": 0.6},
    {"after": 2, "head_ms": 1.0, "cloud_head_ms": 0.5, "accuracy": 0.7},
]
METRICS = {  # at the first exit leaves the first of two samples, which is right
    "latency_ms": 11 + (2.0 + 4.0 + 1.5) / 2,
    "device_ms": 11.0,
    "cloud_ms": 0.75,
    "sent_bytes": 250.0,
    "accuracy": 0.5,
    "device_share": 0.5,
}
PROBLEMS = [
    # 10 ms, 2 + 4 ms for 500 bytes, 1 ms.
    ("neurosurgeon", CHAIN, {"value": 17.0, "choices": [1]}),
    ("dads_light", LAYERS, {"value": 23.0, "choices": [["in"]]}),
    ("dads_heavy", LAYERS, {"value": 9.0, "choices": [["a", "in"]]}),
    (
        "dads",
        {"graph": LAYERS, "frames_per_s": 80},
        {"mode": "heavy", "keeps_up": True, "stage_ms": 9.0},
    ),
    # Half of the images leave behind the first block: 10 + 1 + (6 + 1) / 2.
    (
        "pacheco_couto",
        {**CHAIN, "branches": [{"after": 1, "head_ms": 1.0, "exit_probability": 0.5}]},
        {"value": 14.5, "choices": [1]},
    ),
    (
        "edgent",
        {**CHAIN, "exits": EXITS, "deadline_ms": 12.0},
        {
            "edgent": {"exit": 1, "cuts": [1], "latency_ms": 11.0},
            "most_accurate": {"accuracy": 0.6, "latency_ms": 11.0, "choices": [[1, 1]]},
        },
    ),
    (
        "spinn",
        {
            **CHAIN,
            "exits": EXITS,
            "confidence": [[0.9, 0.9], [0.2, 0.8]],
            "correct": [[True, True], [True, False]],
            "cuts": [0, 1, 2],
            "thresholds": [0.5],
            "objectives": [["latency_ms", "min", 0.0]],
        },
        {"designs": [[1, 0.5]], "metrics": METRICS},
    ),
    (
        "exit_subset",
        {"segment_ms": [1.0], "head_ms": [0.5], "rest_ms": 4.0, "accepts": [[True], [False]]},
        {"value": 3.5, "choices": [[0]]},
    ),
    # Arms of cost 0 and 1; the second is sure of every sample, and both are played once first.
    (
        "splitee",
        {
            "confidence": [[0.5, 1.0], [0.5, 1.0], [0.5, 1.0]],
            "layer_cost": [0.0, 0.25],
            "alpha": 0.9,
            "mu": 1.0,
            "offload": 0.5,
            "beta": 0.1,
        },
        {
            "means": [0.5, 0.75],
            "best": [1],
            "plain": {"pulls": [0, 1, 1], "regret": 0.25},
            "side": {"pulls": [0, 1, 1], "regret": 0.25},
        },
    ),
    # Block 1 on the device, block 2 in the box: 1 + (2 + 4) + 2.
    (
        "three_tier",
        {
            "tiers_ms": [[1.0, 90.0], [50.0, 2.0], [40.0, 40.0]],
            "payload_bytes": [9000, 500, 10],
            "links": {"device_box": CHAIN["link"], "box_cloud": CHAIN["link"]},
        },
        {"value": 9.0, "choices": [[1, 2]]},
    ),
    # The link fails after the first step, and is seen to have failed a step later.
    (
        "replan",
        {
            "plans": {
                "edge": {"fixed_ms": 40.0, "sent_bytes": 0, "offloaded": 0.0},
                "cloud": {"fixed_ms": 2.0, "sent_bytes": 1000, "offloaded": 1.0},
            },
            "trace": [[1, 2], [0.1, 2], [0.1, 2]],
            "weight": 1.0,
            "margin": 0.1,
            "dwell": 1,
        },
        {
            "chosen": ["cloud", "cloud", "edge"],
            "switches": 1,
            "mean_ms": (12 + 84 + 40) / 3,
            "clairvoyant_ms": (12 + 40 + 40) / 3,
            "best_static_ms": 40.0,
        },
    ),
]


def run(
    problems: list[tuple[str, object, object]], file: Path, monkeypatch: pytest.MonkeyPatch
) -> int:
    """Run the benchmark on problems; gives its exit status."""
    instances = [
        {"name": f"number {n}", "system": system, "problem": problem, "answer": answer}
        for n, (system, problem, answer) in enumerate(problems)
    ]
    file.write_text(json.dumps(instances))
    monkeypatch.setattr("sys.argv", ["planners", str(file)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(str(ended.value.code))


def test_answers_are_those_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(PROBLEMS, tmp_path / "known.json", monkeypatch) == 0
    assert f"{len(PROBLEMS)} problems, 0 differ" in capsys.readouterr().out


def changed(answer: object) -> object:
    """Change one number of an answer by a millionth and a bit more."""
    if isinstance(answer, dict):
        key = next(key for key, own in answer.items() if isinstance(own, dict | list | float))
        return {**answer, key: changed(answer[key])}
    if isinstance(answer, list):
        return [changed(answer[0]), *answer[1:]] if answer else answer
    return answer * (1 + 1e-5) if isinstance(answer, float) else "other"


def test_every_other_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [(system, problem, changed(answer)) for system, problem, answer in PROBLEMS]
    odd = [
        ("magic", CHAIN, {}),
        ("neurosurgeon", {**CHAIN, "link": {"bandwidth_mbps": 0, "rtt_ms": 1}}, {}),
        ("neurosurgeon", {}, {"value": 1.0, "choices": [0]}),
        ("neurosurgeon", CHAIN, {"value": 17.0, "choices": [0]}),
        ("neurosurgeon", CHAIN, {"value": float("inf"), "choices": [1]}),
        ("spinn", PROBLEMS[6][1], None),
        ("edgent", PROBLEMS[5][1], {"edgent": None, "most_accurate": None}),
        ("dads", {"graph": LAYERS, "frames_per_s": 0}, {}),
    ]
    assert run([*wrong, *odd], tmp_path / "wrong.json", monkeypatch) == 1
    lines = capsys.readouterr().out.splitlines()
    for n, (system, _, _) in enumerate([*wrong, *odd]):
        assert any(line.startswith(f"{system}, number {n}: ") for line in lines), (n, lines)
    assert lines[-1] == f"{len(wrong) + len(odd)} problems, {len(wrong) + len(odd)} differ"


def test_a_file_that_holds_no_problems_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in ("", "{}", "[{}]", "[1]"):
        (tmp_path / "file.json").write_text(content)
        monkeypatch.setattr("sys.argv", ["planners", str(tmp_path / "file.json")])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert "JSON list" in capsys.readouterr().err


def drawn_layers(generator: np.random.Generator, most: int) -> Layers:
    """Draw layers of which each takes the output of an earlier one or of several."""
    names = [str(n) for n in range(int(generator.integers(2, most)))]
    links = set()
    for at, name in enumerate(names[1:], 1):
        links.add((names[int(generator.integers(at))], name))
        links |= {(own, name) for own in names[:at] if generator.random() < 0.2}
    device, cloud, send = (
        dict(zip(names, generator.uniform(0.1, 30, len(names)).tolist(), strict=True))
        for _ in range(3)
    )
    return Layers(device, {**cloud, "0": float("inf")}, send, tuple(sorted(links)))


def tried(layers: Layers) -> dict[frozenset[str], tuple[float, float, float]]:
    """Try every set of layers: milliseconds of the device, the cloud and the link."""
    names, found = list(layers.device_ms), {}
    for chosen in product((False, True), repeat=len(names) - 1):
        own = {"0", *(name for name, here in zip(names[1:], chosen, strict=True) if here)}
        if any(b in own and a not in own for a, b in layers.links):
            continue
        sent = {a for a, b in layers.links if a in own and b not in own}
        found[frozenset(own)] = (
            sum(layers.device_ms[name] for name in own),
            sum(layers.cloud_ms[name] for name in names if name not in own),
            sum(layers.send_ms[name] for name in sent),
        )
    return found


@pytest.mark.parametrize("seed", range(10))
def test_cuts_of_a_thousand_graphs_are_the_best_of_all_sets(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for _ in range(100):
        layers = drawn_layers(generator, 8)
        parts = tried(layers)
        values = {own: sum(parts[own]) for own in parts}
        table = layers.cuts()
        found = dict(zip(table, table.metric("latency_ms", TIMED).tolist(), strict=True))
        assert found == pytest.approx(values)
        assert values[table.designs[table.choose(TIMED, Goal((FASTEST,)))]] == min(values.values())
        assert values[layers.minimum_cut()] == pytest.approx(min(values.values()), rel=1e-6)
        slowest = max(parts[table.designs[table.choose(TIMED, Goal((HEAVY,)))]])
        assert slowest == pytest.approx(min(map(max, parts.values())))


@settings(max_examples=40)
@given(st.integers(0, 2**20))
def test_the_search_finds_at_most_three_times_the_least_slowest_part(seed: int) -> None:
    layers = drawn_layers(np.random.default_rng(seed), 10)
    parts = tried(layers)
    least = min(map(max, parts.values()))
    table = layers.searched()
    assert set(table) <= set(parts)
    assert layers.minimum_cut() in table
    found = max(parts[table.designs[table.choose(TIMED, Goal((HEAVY,)))]])
    assert least <= found * (1 + 1e-9)
    assert found <= 3 * least


def test_layers_that_are_too_many_to_try_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator, names = np.random.default_rng(0), [str(n) for n in range(MOST_LAYERS + 5)]
    device, cloud, send = generator.uniform(0.1, 30, (3, len(names))).tolist()
    graph = {
        "edge_ms": dict(zip(names, device, strict=True)),
        "cloud_ms": {**dict(zip(names, cloud, strict=True)), "0": None},
        "send_ms": dict(zip(names, send, strict=True)),
        "links": list(pairwise(names)),
    }
    # In a row, every set is the layers up to a cut; behind the last one nothing is sent.
    parts = [
        (sum(device[:cut]), sum(cloud[cut:]), send[cut - 1] if cut < len(names) else 0.0)
        for cut in range(1, len(names) + 1)
    ]
    fastest = min(range(len(parts)), key=lambda at: sum(parts[at]))
    light = {"value": sum(parts[fastest]), "choices": [sorted(names[: fastest + 1])]}
    least = min(map(max, parts))
    solved = [
        ("dads_light", graph, light),
        ("dads_heavy", graph, {"value": least, "choices": []}),
        (
            "dads",
            {"graph": graph, "frames_per_s": 0.1},
            {"mode": "light", "keeps_up": True, "latency_ms": light["value"]},
        ),
    ]
    assert run(solved, tmp_path / "many.json", monkeypatch) == 0
    for value in (3.01 * max(parts[0]), 0.3 * least):
        other = [("dads_heavy", graph, {"value": value, "choices": []})]
        assert run(other, tmp_path / "other.json", monkeypatch) == 1
        assert "value of the search" in capsys.readouterr().out

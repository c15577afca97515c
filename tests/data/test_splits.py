"""Splits are stratified, disjoint by content, and the same for the same seed."""

import random
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eenn.data.splits import SPLIT_NAMES, Split, split_samples
from eenn.errors import EennError

Samples = list[tuple[str, str, str]]  # id, class, content hash

quick = settings(max_examples=60)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def sample_lists(draw: st.DrawFn) -> Samples:
    """Classes of three and more contents, with duplicates planted within and across classes."""
    sizes = draw(st.lists(st.integers(3, 25), min_size=1, max_size=4))
    own = [(f"class{c}", f"hash-{c}-{i}") for c, size in enumerate(sizes) for i in range(size)]
    within = draw(st.lists(st.sampled_from(own), max_size=20))
    shared = st.tuples(st.integers(0, len(sizes) - 1), st.integers(0, 4))
    across = [(f"class{c}", f"shared-{i}") for c, i in draw(st.lists(shared, max_size=20))]
    drawn = draw(st.permutations(own + within + across))
    return [(f"{name}/{number:03d}.jpg", name, h) for number, (name, h) in enumerate(drawn)]


def split_of(samples: Samples, seed: int = 0) -> Split:
    ids, names, hashes = zip(*samples, strict=True)
    return split_samples(ids, names, hashes, seed)


def one_class(contents: list[str], name: str = "cat") -> Samples:
    return [(f"{name}/{number}.jpg", name, content) for number, content in enumerate(contents)]


@quick
@given(sample_lists(), seeds)
def test_a_duplicate_never_straddles_two_parts(samples: Samples, seed: int) -> None:
    split = split_of(samples, seed)
    content = {sample_id: h for sample_id, _, h in samples}
    contents = [{content[s] for s in getattr(split, part)} for part in SPLIT_NAMES]
    assert all(a.isdisjoint(b) for a, b in combinations(contents, 2))


@quick
@given(sample_lists(), seeds)
def test_every_sample_is_in_exactly_one_part(samples: Samples, seed: int) -> None:
    split = split_of(samples, seed)
    assert sorted(split.train + split.val + split.test) == sorted(s for s, _, _ in samples)
    assert split.sizes == {part: len(getattr(split, part)) for part in SPLIT_NAMES}


@quick
@given(sample_lists(), seeds)
def test_every_class_is_in_every_part(samples: Samples, seed: int) -> None:
    split = split_of(samples, seed)
    class_of = {sample_id: name for sample_id, name, _ in samples}
    for part in SPLIT_NAMES:
        assert {class_of[s] for s in getattr(split, part)} == set(class_of.values())


@quick
@given(sample_lists(), seeds, st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(
    samples: Samples, seed: int, shuffler: random.Random
) -> None:
    shuffled = samples.copy()
    shuffler.shuffle(shuffled)
    assert split_of(shuffled, seed) == split_of(samples, seed)


@quick
@given(st.lists(st.integers(3, 120), min_size=1, max_size=3), seeds)
def test_each_class_is_shared_80_10_10(sizes: list[int], seed: int) -> None:
    samples = [
        sample
        for c, size in enumerate(sizes)
        for sample in one_class([f"{c}-{i}" for i in range(size)], f"class{c}")
    ]
    split = split_of(samples, seed)
    for part, share in (("val", 0.1), ("test", 0.1), ("train", 0.8)):
        counts = Counter(s.split("/")[0] for s in getattr(split, part))
        for c, size in enumerate(sizes):
            slack = 2 if part == "train" else 1
            assert abs(counts[f"class{c}"] - share * size) <= slack


def test_another_seed_draws_another_split() -> None:
    samples = one_class([str(i) for i in range(50)])
    assert len({split_of(samples, seed).test for seed in range(5)}) == 5


def test_a_sample_is_as_likely_to_be_tested_as_any_other() -> None:
    samples = one_class([str(i) for i in range(10)])
    tested = Counter(s for seed in range(1000) for s in split_of(samples, seed).test)
    assert len(tested) == 10
    assert all(abs(count - 100) < 50 for count in tested.values())  # five standard deviations


def test_the_hash_changes_with_any_part_and_the_seed() -> None:
    split = split_of(one_class([str(i) for i in range(30)]))
    moved = replace(split, train=split.train[1:], val=(split.train[0], *split.val))
    swapped = replace(split, val=split.test, test=split.val)
    others = [moved, swapped, replace(split, seed=1), replace(split, train=split.train[1:])]
    assert len({s.hash for s in [split, *others]}) == 5
    assert replace(split).hash == split.hash


@pytest.mark.parametrize("contents", [["a", "b"], ["a", "b", "a", "b", "b"]])
def test_a_class_too_small_is_named_with_its_count(contents: list[str]) -> None:
    good = one_class(["x", "y", "z"], "dog")
    with pytest.raises(EennError, match=r"fewer than 3 distinct images: cat \(2\);"):
        split_of(good + one_class(contents))


def test_all_classes_too_small_are_named_at_once() -> None:
    samples = one_class(["a"], "one") + one_class(["b", "c"], "two")
    with pytest.raises(EennError, match=r"one \(1\), two \(2\)"):
        split_of(samples)


def test_a_class_made_of_copies_of_another_is_refused() -> None:
    with pytest.raises(EennError, match=r"dog \(0\)"):
        split_of(one_class(["a", "b", "c"], "cat") + one_class(["a", "b", "c"], "dog"))


def test_three_images_give_one_to_each_part() -> None:
    assert split_of(one_class(["a", "b", "c"])).sizes == {"train": 1, "val": 1, "test": 1}


@quick
@given(sample_lists(), seeds)
def test_a_split_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, samples: Samples, seed: int
) -> None:
    split = split_of(samples, seed)
    path: Path = tmp_path_factory.mktemp("split") / "split.json"
    path.write_text(split.to_json())
    loaded = Split.load(path)
    assert loaded == split
    assert loaded.hash == split.hash

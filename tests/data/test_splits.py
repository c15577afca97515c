"""Splits are stratified, disjoint by content, and the same for the same seed."""

import random
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
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


# Parts that are given


def in_parts(samples: Samples, generator: random.Random) -> list[str]:
    """A part for each sample; every class has images to train on."""
    parts = [generator.choice(SPLIT_NAMES) for _ in samples]
    seen = set()
    for at, (_, name, _) in enumerate(samples):
        if name not in seen:
            parts[at] = "train"
            seen.add(name)
    return parts


@quick
@given(sample_lists(), seeds, st.randoms(use_true_random=False))
def test_given_parts_are_kept_whatever_the_seed_and_the_contents(
    samples: Samples, seed: int, generator: random.Random
) -> None:
    parts = in_parts(samples, generator)
    ids, names, hashes = zip(*samples, strict=True)
    assume(set(parts) == set(SPLIT_NAMES))
    split = split_samples(ids, names, hashes, seed, parts)
    for part in SPLIT_NAMES:
        own = [one for one, where in zip(ids, parts, strict=True) if where == part]
        assert getattr(split, part) == tuple(sorted(own))


@quick
@given(sample_lists(), seeds)
def test_validation_is_drawn_from_training_where_it_is_not_given(
    samples: Samples, seed: int
) -> None:
    tested = [(f"test-{one}", name, f"test {content}") for one, name, content in samples[::2]]
    ids, names, hashes = zip(*samples, *tested, strict=True)
    parts = ["train"] * len(samples) + ["test"] * len(tested)
    split = split_samples(ids, names, hashes, seed, parts)
    assert split.test == tuple(sorted(one for one, _, _ in tested))
    assert sorted(split.train + split.val) == sorted(one for one, _, _ in samples)
    content = {one: found for one, _, found in samples}
    assert {content[one] for one in split.train}.isdisjoint(content[one] for one in split.val)
    class_of = {one: name for one, name, _ in samples}
    for part in (split.train, split.val):
        assert {class_of[one] for one in part} == set(class_of.values())


def test_a_tenth_of_training_is_drawn_and_the_seed_draws_it() -> None:
    samples = one_class([str(n) for n in range(100)]) + one_class([f"d{n}" for n in range(40)], "d")
    ids, names, hashes = zip(*samples, *one_class(["x"]), strict=True)
    ids = (*ids[:-1], "test/x.jpg")
    parts = ["train"] * 140 + ["test"]
    drawn = [split_samples(ids, names, hashes, seed, parts) for seed in (0, 0, 1)]
    assert Counter(one.split("/")[0] for one in drawn[0].val) == {"cat": 10, "d": 4}
    assert drawn[0] == drawn[1]
    assert drawn[0].val != drawn[2].val


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            "train cat a, train cat b, test cat c, test dog d, val emu e",
            "training images: dog, emu;",
        ),
        ("train cat a, val cat b", "no readable image in test"),
        ("test cat a, val cat b", "no readable image in train"),
        ("train cat a, train cat a, test cat b", r"fewer than 2 distinct images: cat \(1\);"),
    ],
)
def test_parts_that_cannot_be_trained_on_are_one_line(rows: str, said: str) -> None:
    parts, names, contents = zip(*(row.split() for row in rows.split(", ")), strict=True)
    with pytest.raises(EennError, match=said) as caught:
        split_samples([str(n) for n in range(len(parts))], names, contents, 0, parts)
    assert "\n" not in str(caught.value)

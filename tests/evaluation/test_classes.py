"""One way to answer, class by class, against a loop over images."""

from dataclasses import replace

import numpy as np
import pytest

from eenn.evaluation.classes import by_class
from eenn.exits.policies.threshold import Confidence
from eenn.exits.settings import Baseline, Setting
from tests.evaluation.cases import MACS, case

NAMES = ("ant", "bee", "cat", "dog", "eel")
SETTING = Setting(Confidence(p_tar=0.7), (0, 1))


def test_every_class_is_what_a_loop_over_its_images_finds() -> None:
    given = case(300)
    assert given.labels is not None
    first, second, last = (np.asarray(exit.probs) for exit in given.outputs)
    found = {row.class_name: row for row in by_class(given, SETTING, NAMES)}
    assert list(found) == list(NAMES)
    for label, name in enumerate(NAMES):
        own = np.flatnonzero(given.labels == label)
        early, right, edge_right, last_right, macs = 0, 0, 0, 0, 0.0
        for image in own:
            cost, answer, left = MACS.segments[0] + MACS.heads[0], first[image], True
            if first[image].max() < 0.7:
                cost += MACS.segments[1] + MACS.heads[1]
                answer = second[image]
                if second[image].max() < 0.7:
                    cost += MACS.segments[2] + MACS.heads[2]
                    answer, left = last[image], False
            early += left
            right += answer.argmax() == label
            edge_right += left and answer.argmax() == label
            last_right += last[image].argmax() == label
            macs += cost
        row, n = found[name], len(own)
        assert row.n == n
        assert 0 < early < n
        assert row.edge_probability.value == pytest.approx(early / n)
        assert row.accuracy.value == pytest.approx(right / n)
        assert row.edge_accuracy.value == pytest.approx(edge_right / early)
        assert row.last_exit_accuracy.value == pytest.approx(last_right / n)
        assert row.macs == pytest.approx(macs / n)


def test_without_labels_or_a_policy_there_are_no_classes() -> None:
    given = case(50)
    assert by_class(replace(given, labels=None), SETTING, NAMES) == []
    assert by_class(given, Setting(None, (), Baseline.LAST_EXIT_ONLY), NAMES) == []


def test_a_class_without_images_has_no_row() -> None:
    given = case(50)
    assert given.labels is not None
    rows = by_class(replace(given, labels=given.labels % 2), SETTING, NAMES)
    assert [row.class_name for row in rows] == ["ant", "bee"]

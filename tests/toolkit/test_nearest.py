"""The nearest images by features."""

from __future__ import annotations

import numpy as np

from medzoo.toolkit.nearest import lower_tail, nearest


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_nearest_counts_on_over_the_ways():
    index, distance = nearest(column(1, 19, 31), [column(0, 10), column(20, 30)])
    assert index.tolist() == [0, 2, 3]
    assert distance.tolist() == [1, 1, 1]


def test_nearest_leaves_out_the_excluded_reference_in_every_way():
    index, distance = nearest(column(1, 1), [column(0, 10), column(2, 30)], exclude=np.array([0, -1]))
    assert index.tolist() == [1, 0]
    assert distance.tolist() == [9, 1]


def test_nearest_to_others_among_equal_images():
    same = column(5, 5, 5, 7)
    _, distance = nearest(same, [same], exclude=np.arange(4))
    assert distance.tolist() == [0, 0, 0, 2]


def test_nearest_without_another_reference():
    _, distance = nearest(column(1), [column(0)], exclude=np.array([0]))
    assert distance.tolist() == [np.inf]


def test_lower_tail_reaches_over_rounding():
    distances = np.arange(200.0)
    threshold, reach = lower_tail(distances)
    assert threshold == 1.0
    assert 1.0 < reach < 1.01
    assert lower_tail(np.array([3.0, 2.0]))[0] == 2.0

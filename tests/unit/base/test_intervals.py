"""IntervalMap against a plain list of values."""

import random

from nexus.base.intervals import IntervalMap


def test_random_sets_match_a_list():
    rng = random.Random(7)
    for _ in range(50):
        limit = rng.choice((5, 40))
        plain = [0] * limit
        intervals = IntervalMap(0)
        for _ in range(60):
            start = rng.randrange(limit)
            end = rng.randrange(start + 1, limit + 1)
            value = rng.randrange(3)
            intervals.set(start, end, value)
            plain[start:end] = [value] * (end - start)
            assert [intervals[point] for point in range(limit)] == plain
            changes = 1 + sum(a != b for a, b in zip([*plain, 0], [*plain[1:], 0, 0], strict=True))
            assert len(intervals) == changes


def test_runs_are_cut_to_the_range_and_maximal():
    intervals = IntervalMap("")
    intervals.set(10, 20, "a")
    intervals.set(20, 30, "a")
    intervals.set(30, 40, "b")
    assert list(intervals.runs(5, 35)) == [(5, 10, ""), (10, 30, "a"), (30, 35, "b")]
    assert list(intervals.runs(12, 13)) == [(12, 13, "a")]
    assert list(intervals.runs(0, 0)) == list(intervals.runs(12, 12)) == list(intervals.runs(13, 12)) == []
    assert intervals.run(25, 1000) == (10, 30, "a")
    assert intervals.run(500, 1000) == (40, 1000, "")

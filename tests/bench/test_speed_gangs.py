"""The benchmark of gangs: what it counts."""

from __future__ import annotations

from bench.speed_gangs import beside


def test_beside_the_arithmetic_is_what_lies_between_leases() -> None:
    events = [
        {"key": "b", "time": 14.5, "seconds": 3.5},  # leased at 11, while a was being stored
        {"key": "a", "time": 11.25, "seconds": 1.25},
        {"key": "c", "time": 20.0, "seconds": 6.0},  # leased at 14
    ]
    own = {"a": 0.75, "b": 2.5, "c": 5.0}
    assert beside(events, own) == [0.25, 0.5]
    assert beside(events[:1], own) == []

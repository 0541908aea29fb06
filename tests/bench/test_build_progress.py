"""Progress of a build: a bar on a terminal, plain lines with rate and time left in a log."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from bench import build_progress


def test_a_log_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with build_progress.shown(Console(file=out, width=100), "photos") as report:
        for now[0], tried in ((101.0, 50), (110.0, 500), (115.0, 800), (121.0, 1050)):
            report(tried, 2000)
        now[0] = 140.0
        report(2000, None)
    assert out.getvalue().splitlines() == [
        "building photos: 500/2000 images, 50 images/s, 30 s left",
        "building photos: 1050/2000 images, 50 images/s, 19 s left",
        "building photos: 2000 images, 50 images/s",
    ]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with build_progress.shown(console, "photos") as report:
        report(1, 30)
        time.sleep(0.2)
        report(29, 30)
        time.sleep(0.2)
    text = out.getvalue()
    assert "building photos" in text and "29/30" in text and "images/s" in text

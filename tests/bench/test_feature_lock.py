"""One turn at a time, over processes; the dead hold nobody up, and waiting is said."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench import feature_lock
from bench.feature_lock import Turn, held

HOLD = """
import sys
from pathlib import Path
from bench.feature_lock import Turn
turn = Turn(Path(sys.argv[1]), "k", "features of x")
assert turn.take()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that has the turn for "k"."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    started = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
    assert started.stdout is not None and started.stdout.readline() == "held\n"
    return started


def test_one_key_is_for_one_process(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    other, same = Turn(tmp_path, "j", "y"), Turn(tmp_path, "k", "x")
    assert other.take() and not same.take() and not same.take(0.3)
    assert same.holder() == f"process {holder.pid} on {feature_lock.socket.gethostname()}"
    other.give()
    holder.communicate("")
    assert same.take()
    same.give()
    same.give()
    assert [path.suffix for path in sorted((tmp_path / ".locks").iterdir())] == [".lock"] * 2


def test_a_killed_process_holds_nobody_up(
    holder: subprocess.Popen[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor(1) as pool:
        patched.setattr(feature_lock, "NOTICE_S", 0.2)
        turn = Turn(tmp_path, "k", "features of x")
        waiting = pool.submit(turn.take, 60)
        with caplog.at_level(logging.WARNING):
            assert not waiting.done()
            while not caplog.messages:
                assert not waiting.done()
        holder.send_signal(signal.SIGKILL)
        assert waiting.result()
    (said,) = caplog.messages  # and not again with every look
    assert f"for features of x: process {holder.pid} on " in said and "k.lock" in said
    assert turn.holder().startswith(f"process {os.getpid()} ")
    turn.give()
    holder.wait()


def test_a_turn_is_given_up_on_errors(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="computing failed"), held(Turn(tmp_path, "k", "x")):
        raise RuntimeError("computing failed")
    assert Turn(tmp_path, "k", "x").take()


def test_two_threads_of_a_process_take_turns_too(tmp_path: Path) -> None:
    first = Turn(tmp_path, "k", "x")
    assert first.take() and not Turn(tmp_path, "k", "x").take()
    first.give()


def test_an_unwritable_folder_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Turn(tmp_path / "file", "k", "x").take()

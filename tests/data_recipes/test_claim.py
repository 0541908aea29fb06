"""One build at a time; a killed build holds nobody up."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from data_recipes.core.claim import Claim, claimed
from data_recipes.core.model import DataError

HOLD = """
import sys
from pathlib import Path
from data_recipes.core.claim import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that builds in tmp_path / "b"."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "b")]
    started = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "held\n"
    return started


def test_a_second_build_is_refused_while_the_first_lives(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    with (
        pytest.raises(DataError, match=rf"process {holder.pid} on .* is building this dataset"),
        claimed(tmp_path / "b"),
    ):
        pytest.fail("two builds in one folder")
    (claim,) = (tmp_path / "b").iterdir()
    assert str(holder.pid) in claim.name
    holder.communicate("")
    assert holder.returncode == 0
    with claimed(tmp_path / "b"):
        pass
    assert list((tmp_path / "b").iterdir()) == []


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_build_holds_nobody_up(
    holder: subprocess.Popen[str], tmp_path: Path, reaped: bool
) -> None:
    holder.send_signal(signal.SIGKILL)
    if reaped:
        holder.wait()
    else:
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert len(list((tmp_path / "b").iterdir())) == 1
    with claimed(tmp_path / "b"):
        (claim,) = (tmp_path / "b").iterdir()
        assert str(os.getpid()) in claim.name
    holder.wait()


def test_this_process_cannot_build_twice_at_once(tmp_path: Path) -> None:
    with claimed(tmp_path):
        with pytest.raises(DataError, match=f"process {os.getpid()} on"), claimed(tmp_path):
            pytest.fail("two builds in one folder")
        assert len(list(tmp_path.iterdir())) == 1


def test_another_host_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "claim-elsewhere-1"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 0.0}))
    with pytest.raises(DataError) as caught, claimed(tmp_path):
        pytest.fail("two builds in one folder")
    assert str(caught.value).endswith(f"Where that process has ended, remove {path}")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_number_given_to_a_later_process_is_not_the_builder() -> None:
    mine = psutil.Process()
    assert Claim(socket.gethostname(), mine.pid, mine.create_time()).living()
    assert not Claim(socket.gethostname(), mine.pid, mine.create_time() - 1000).living()

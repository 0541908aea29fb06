"""Benchmarks on a GPU say so where there is none; the parts that need none are right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench import speed_gpu


def test_without_a_gpu_there_are_no_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert speed_gpu.rows(tmp_path) == []
    assert capsys.readouterr().out == "gpu: no CUDA device here, so no rows\n"


def test_operations_are_counted_with_the_backward() -> None:
    x, w = torch.randn(8, 16), torch.randn(16, 4, requires_grad=True)
    assert speed_gpu.operations(lambda: x @ w) == 2 * 8 * 16 * 4
    assert speed_gpu.operations(lambda: (x @ w).sum().backward()) == 2 * 2 * 8 * 16 * 4

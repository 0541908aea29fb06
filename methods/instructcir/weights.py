"""LLaVA-class weights: found, named by their content, loaded without running anybody's code."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

# What decides a model's values: weights, configuration, words, image preprocessing.
DECIDING = (".safetensors", ".json", ".jinja", ".txt", ".model")


class WeightsError(ValueError):
    """The weights cannot be read as asked; the message says what to change."""


def transformers() -> Any:
    """The package, imported when it is first needed.

    Raises:
        WeightsError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise WeightsError(f"{error}; run pip install 'promptgrid[mllm]'") from error
    transformers.utils.logging.disable_progress_bar()
    return transformers


def folder(model: str) -> Path:
    """Where the files of `model` (a folder, or a hub name) are; fetches a hub name's.

    Raises:
        WeightsError: no such folder, and no such name within reach.
    """
    transformers()
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=[f"*{end}" for end in DECIDING]))
    except Exception as error:
        raise WeightsError(
            f"model {model!r} is no folder here and cannot be fetched ({type(error).__name__}); "
            "give `model: PATH` of a folder with config.json, tokenizer and safetensors"
        ) from error


def digest(model: str) -> str:
    """sha256 over the names and bytes of all files that decide what a model computes.

    Raises:
        WeightsError: no LLaVA-class model with safetensors is there.
    """
    where = folder(model)
    _check(where)
    files = sorted(p for p in where.iterdir() if p.suffix in DECIDING and p.is_file())
    stats = tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return _digest(where, stats)


@lru_cache(maxsize=8)
def _digest(where: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    sha = hashlib.sha256()
    for name, _, _ in files:
        with (where / name).open("rb") as stream:
            sha.update(name.encode() + b"\0" + hashlib.file_digest(stream, "sha256").digest())
    return sha.hexdigest()


def _check(where: Path) -> None:
    try:
        kind = json.loads((where / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{where}/config.json: {reason}; is this a model's folder?") from error
    known = transformers().models.auto.modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    if kind not in known:
        raise WeightsError(
            f"{where}/config.json: model_type {kind!r} is none that reads an image with a text; "
            "InstructCIR is of the LLaVA class ('llava')"
        )
    if not list(where.glob("*.safetensors")):
        raise WeightsError(
            f"{where}: no .safetensors file; other formats can run code when they are read, so "
            "convert the weights with save_pretrained(..., safe_serialization=True)"
        )


def config_and_processor(model: str) -> tuple[Any, Any]:
    """transformers' config and processor of the model, LlavaConfig and LlavaProcessor for one.

    Raises:
        WeightsError: a file is missing or not of this kind.
    """
    library, where = transformers(), folder(model)
    _check(where)
    try:
        config = library.AutoConfig.from_pretrained(where, trust_remote_code=False)
        processor = library.AutoProcessor.from_pretrained(where, trust_remote_code=False)
    except Exception as error:
        raise WeightsError(f"{where}: {type(error).__name__}: {error}") from error
    if not hasattr(processor, "image_processor"):
        raise WeightsError(f"{where}: no processor_config.json or preprocessor_config.json")
    return config, processor


def load(model: str, dtype: str, device: str | torch.device) -> Any:
    """The model (a `LlavaModel`, say) without its language model's head, frozen, in eval mode.

    Raises:
        WeightsError: the weights do not fill the model; transformers would draw the rest randomly.
    """
    library, where = transformers(), folder(model)
    try:
        whole, report = library.AutoModelForImageTextToText.from_pretrained(
            where,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise WeightsError(f"{where}: {type(error).__name__}: {error}") from error
    # The head that predicts words is not used.
    lacking = sorted(name for name in report["missing_keys"] if not name.startswith("lm_head"))
    lacking += sorted(map(str, report["mismatched_keys"]))
    if lacking:
        raise WeightsError(f"{where}: weights are missing or misshapen: {', '.join(lacking[:5])}")
    return whole.base_model.eval().requires_grad_(False).to(device)

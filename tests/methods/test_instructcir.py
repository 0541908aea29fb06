"""Released InstructCIR weights: prompts, pooling, identity, caching, errors."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.functional import to_pil_image

pytest.importorskip("transformers")

from bench.cell import run_cell
from bench.features import image_features
from bench.plan import plan
from bench.study import Study
from bench.study_file import StudyError
from data_recipes.core.dataset import Dataset
from methods.core.backbone import Backbone
from methods.core.contract import Batch, TaskInfo
from methods.instructcir import InstructCIR, weights
from methods.instructcir.prompts import GALLERY, Rows, query_prompt
from methods.instructcir.reading import last_state, patches
from methods.instructcir.released import InstructCIRConfig
from tests.llava import released, save
from tests.tiny import TINY_SPEC


def method(backbone: Backbone, model: Path | None = None, kind: str = "composed") -> InstructCIR:
    config = InstructCIRConfig(model=str(model or released()), dtype="float32")
    return InstructCIR(config, backbone, TaskInfo(kind))  # type: ignore[arg-type]


def pixels(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 28, 28, generator=torch.Generator().manual_seed(1))


def test_the_prompts_are_the_released_ones_to_the_letter(tiny_backbone: Backbone) -> None:
    assert GALLERY == "<image>\n Describe this image in one word:"
    written = '<image>Modify this image with "make it {x} "blue"", desribe modified image'
    assert query_prompt('make it {x} "blue"') == f"{written} in one word:"
    words = method(tiny_backbone).words
    _, processor = weights.config_and_processor(str(released()))
    read = processor.tokenizer.decode(words.encode(GALLERY))
    assert read == f"<|user|>\n{GALLERY}<|end|>\n<|assistant|>\n"  # no <s>, ends for the answer
    assert words.encode(GALLERY).count(words.image) == 1 and words.image_tokens == 4
    with pytest.raises(ValueError, match="stands for the image"):
        query_prompt("a <image> here")


def test_it_is_the_last_layer_at_the_last_token_as_the_whole_model_gives_it(
    tiny_backbone: Backbone,
) -> None:
    transformers = pytest.importorskip("transformers")
    config, processor = weights.config_and_processor(str(released()))
    whole = transformers.AutoModelForImageTextToText.from_pretrained(released()).eval()
    shown = pixels(2)
    texts = ["make it blue", "as a much longer instruction, with commas"]
    told = method(tiny_backbone)
    found = told.compose(shown, texts)
    for row, text in enumerate(texts):  # one at a time: no padding, HF's own way through
        turn = [{"role": "user", "content": query_prompt(text)}]
        chat = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        chat = chat.removeprefix("<s>").replace("<image>", "<image>" * 4)
        inputs = processor.tokenizer(chat, return_tensors="pt")
        with torch.no_grad():
            out = whole(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                pixel_values=shown[row : row + 1],
                output_hidden_states=True,
            )
        expected = torch.nn.functional.normalize(out.hidden_states[-1][0, -1], dim=-1)
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-5)
    assert config.text_config.model_type == "phi3"


def test_left_padding_changes_nothing(tiny_backbone: Backbone) -> None:
    told = method(tiny_backbone, kind="image_text")
    texts = ["a", "a red square on white", "one word and then many many more words than before"]
    together = told.text(texts)
    alone = torch.cat([told.text([text]) for text in texts])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    rows = told.words.rows(texts, torch.device("cpu"))
    assert rows.mask[:, -1].all() and not rows.mask[0, 0]
    model = weights.load(str(released()), "float32", "cpu")
    right = Rows(
        rows.ids.flip(1), rows.mask.flip(1), rows.lengths
    )  # the check can fail: padded at the end
    assert (last_state(model, right, None) - last_state(model, rows, None)).abs().max() > 1e-3


def test_patches_are_of_the_last_layer_but_one_without_the_class_token() -> None:
    model = weights.load(str(released()), "float32", "cpu")
    states = model.vision_tower(pixels(2), output_hidden_states=True).hidden_states
    assert len(states) == 4  # embeddings and three layers
    assert torch.equal(patches(model, pixels(2)), states[-2][:, 1:])


@pytest.mark.parametrize("language", ["phi3", "llama"])
def test_a_study_by_path_evaluates_and_its_key_follows_the_weights_bytes(
    tiny_data: Path, tmp_path: Path, language: str
) -> None:
    first, moved, other = tmp_path / "one", tmp_path / "moved", tmp_path / "other"
    save(first, seed=1, language=language)
    shutil.copytree(first, moved)
    save(other, seed=2, language=language)

    def cell(model: Path) -> object:
        config = {"model": str(model), "dtype": "float32"}
        study = {
            "name": "x",
            "backbone": TINY_SPEC.model_dump(),
            "datasets": ["tiny/composed"],
            "methods": [{"name": "instructcir", "config": config}],
            "shots": [1],
            "seeds": [1],
        }
        return plan(Study.model_validate(study), tiny_data, tmp_path / "cache").cells[0]

    cells = [cell(model) for model in (first, other)]
    assert cells[0].sources["weights"] != cells[1].sources["weights"]  # type: ignore[attr-defined]
    assert cells[0].key != cells[1].key  # type: ignore[attr-defined]
    assert cell(moved).sources == cells[0].sources  # type: ignore[attr-defined]
    results = [run_cell(one) for one in (cells[0], cells[0], cells[1])]  # type: ignore[arg-type]
    metrics = [result.record["metrics"] for result in results if result]
    assert metrics[0] == metrics[1] and 0 <= metrics[0]["recall@1"] <= 1
    assert results[0] is not None and not results[0].weights  # the frozen weights are not kept
    shutil.copy(other / "model.safetensors", first / "model.safetensors")
    with pytest.raises(ValueError, match="not those of the plan"):
        run_cell(cells[0])  # type: ignore[arg-type]


def test_a_cached_gallery_equals_an_uncached_one_and_is_encoded_once(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    told = method(tiny_backbone)
    ids = sorted(c.image for c in tiny_dataset.task("composed").evaluate[0].candidates if c.image)
    cached = image_features(tiny_dataset, told.frozen_gallery, tmp_path, only=ids)
    shown = torch.stack([told.transform(image) for image in tiny_dataset.images(ids)])
    torch.testing.assert_close(cached.at(ids), told.image(shown), rtol=0, atol=1e-5)
    assert len(cached.features) == len(ids) < len(tiny_dataset.reader.index)
    found = told.candidate(Batch(images=cached.at(ids)))
    assert torch.equal(found, cached.at(ids))  # passes through
    files = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.*")}
    image_features(tiny_dataset, told.frozen_gallery, tmp_path, only=ids)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.*")} == files
    image_features(tiny_dataset, told.frozen_gallery, tmp_path, only=ids[:3])
    assert len([*tmp_path.glob("*.npy")]) == 2


def test_no_pickle_is_read(tiny_backbone: Backbone, tmp_path: Path) -> None:
    folder, mark = tmp_path / "model", tmp_path / "ran"
    save(folder)
    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as stream:
        pickle.dump({"x": _Opened(str(mark))}, stream)
    with pytest.raises(ValueError, match=r"no file named model\.safetensors"):
        weights.load(str(folder), "float32", "cpu")
    with pytest.raises(ValueError, match=r"no \.safetensors file"):
        method(tiny_backbone, folder)
    assert not mark.exists()


class _Opened:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (self.path, "w"))


def test_bad_weights_end_in_one_clear_error(tmp_path: Path, tiny_data: Path) -> None:
    from safetensors.torch import load_file, save_file

    study = {"name": "x", "backbone": TINY_SPEC.model_dump(), "datasets": ["tiny/composed"]}
    config = {"model": str(tmp_path / "absent")}
    entry = {"methods": [{"name": "instructcir", "config": config}], "shots": [1], "seeds": [1]}
    with pytest.raises(StudyError, match=r"is no folder here.*give `model: PATH`"):
        plan(Study.model_validate({**study, **entry}), tiny_data, tmp_path / "cache")
    with pytest.raises(ValueError, match=r"config\.json.*is this a model's folder"):
        weights.digest(str(tmp_path))
    folder = tmp_path / "model"
    save(folder)
    state = load_file(folder / "model.safetensors")
    name = next(name for name in state if "multi_modal_projector" in name)
    save_file({k: v for k, v in state.items() if k != name}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="weights are missing or misshapen"):
        weights.load(str(folder), "float32", "cpu")
    config_file = folder / "config.json"
    config_file.write_text(config_file.read_text().replace('"llava"', '"gpt2"'))
    with pytest.raises(ValueError, match="model_type 'gpt2' is none that reads an image"):
        weights.digest(str(folder))


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'promptgrid\[mllm\]'"):
        weights.digest(str(released()))


def test_a_model_of_another_class_is_read_through_its_own_processor(
    tiny_backbone: Backbone, tmp_path: Path
) -> None:
    import transformers

    save(tmp_path, kind="LlavaNext")
    options = {"model": str(tmp_path), "dtype": "float32", "image_size": 56}
    config = InstructCIR.Config.model_validate(options)
    reader = InstructCIR(config, tiny_backbone, TaskInfo("composed")).eval()
    pictures = [Image.effect_noise((60 + 20 * n, 50), 90).convert("RGB") for n in range(3)]
    pixels = torch.stack([reader.transform(picture) for picture in pictures])
    assert pixels.shape == (3, 3, 56, 56)
    texts = ["make it blue", "make it red, with three small squares on it", "x"]
    queries = reader.compose(pixels, texts)
    for found in (queries, reader.image(pixels), reader.text(texts)):
        assert found.shape == (3, reader.dim)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    for row in range(3):  # rows of unequal lengths are padded on the left
        alone = reader.compose(pixels[row : row + 1], texts[row : row + 1])
        torch.testing.assert_close(alone[0], queries[row], atol=1e-5, rtol=1e-4)
    other = reader.compose(pixels, ["make it red", *texts[1:]])
    assert not torch.allclose(other[0], queries[0], atol=1e-4)
    # The whole model's own forward of the chat, as its users run it.
    whole = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    processor = transformers.AutoProcessor.from_pretrained(tmp_path)
    asked = f"<image>\n{query_prompt(texts[0]).removeprefix('<image>')}"
    told = f"<s><|user|>\n{asked}<|end|>\n<|assistant|>\n"
    inputs = processor(text=told, images=to_pil_image(pixels[0]), return_tensors="pt")
    state = whole(**inputs, output_hidden_states=True).hidden_states[-1][:, -1]
    torch.testing.assert_close(
        nn.functional.normalize(state, dim=-1), queries[:1], atol=1e-5, rtol=1e-4
    )

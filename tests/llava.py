"""A LLaVA-class model of the released layout at tiny width, saved to a folder, for tests.

CLIP vision tower, two-layer GELU projector, Llama-like language model, a byte-pair tokenizer with
Phi-3.5's chat template, CLIP's image processor; random weights.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch

TEMPLATE = (
    "<s>{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] "
    "+ '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
PARTS = TEMPLATE.replace(
    "message['content']",
    "(message['content'] | map(attribute='text', default='<image>\n') | join)",
)
SPECIAL = ["<unk>", "<s>", "<|user|>", "<|assistant|>", "<|end|>", "<image>", "<pad>"]


@cache
def released() -> Path:
    """The folder; one a process."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-llava-"))
    save(folder)
    return folder


def save(folder: Path, seed: int = 0, language: str = "phi3", kind: str = "Llava") -> None:
    """Write model, tokenizer and processor to `folder`. kind: "Llava", or "LlavaNext"."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokens = Tokenizer(models.BPE(unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokens.train_from_iterator(["Modify this image with describe one word make it blue"], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokens, unk_token="<unk>", bos_token="<s>", pad_token="<pad>"
    )
    tokenizer.chat_template = TEMPLATE
    vision = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    of_text = {"phi3": transformers.Phi3Config, "llama": transformers.LlamaConfig}[language]
    text = of_text(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        pad_token_id=SPECIAL.index("<pad>"),
        bos_token_id=1,
        eos_token_id=4,
    )
    grid = {} if kind == "Llava" else {"image_grid_pinpoints": [[28, 56], [56, 28]]}
    config = getattr(transformers, f"{kind}Config")(
        vision_config=vision,
        text_config=text,
        image_token_index=SPECIAL.index("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        **grid,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    torch.random.set_rng_state(state)
    model.save_pretrained(folder)
    sizes = {"crop_size": {"height": 28, "width": 28}, "size": {"shortest_edge": 28}}
    images = (
        transformers.CLIPImageProcessor if kind == "Llava" else transformers.LlavaNextImageProcessor
    )
    processor = getattr(transformers, f"{kind}Processor")(
        image_processor=images(**sizes, **grid),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE if kind == "Llava" else PARTS,
    )
    processor.save_pretrained(folder)

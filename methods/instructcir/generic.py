"""Any other image-text-to-text model of transformers, read through its own processor.

The InstructCIR weights are of the LLaVA class, which `prompts` and `reading` follow to the letter.
Other models (LLaVA-NeXT, Qwen-VL, Idefics and the like) cut images into tokens in their own ways:
here their processor sees the image itself, the prompt goes through their chat template, and the
embedding is read at the same place, the last layer's state at the last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from methods.instructcir.prompts import IMAGE


def square(image: Image.Image, side: int) -> Tensor:
    """RGB image -> (3, side, side) uint8: shorter side resized (bicubic), centre cropped."""
    resized = functional.resize(image, [side], functional.InterpolationMode.BICUBIC)
    found: Tensor = functional.pil_to_tensor(functional.center_crop(resized, [side, side]))
    return found


def chat(processor: Any, prompt: str) -> str:
    """A prompt with at most one `<image>`, as a user's turn, generation prompt appended."""
    parts: list[dict[str, str]] = [{"type": "image"}] if IMAGE in prompt else []
    parts.append({"type": "text", "text": prompt.replace(IMAGE, "").strip()})
    turn = [{"role": "user", "content": parts}]
    return str(processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))


def last_states(
    model: Any, processor: Any, prompts: Sequence[str], pixels: Tensor | None
) -> Tensor:
    """The final state (B, width of the language model) of each prompt's last token.

    model: without the head that predicts words. pixels: (B, 3, S, S) uint8, or None.
    """
    processor.tokenizer.padding_side = "left"
    told: dict[str, Any] = {"text": [chat(processor, prompt) for prompt in prompts]}
    if pixels is not None:
        told["images"] = [[functional.to_pil_image(one)] for one in pixels.cpu()]
    inputs = processor(**told, padding=True, return_tensors="pt").to(model.device)
    for name, value in inputs.items():
        if torch.is_tensor(value) and value.is_floating_point():
            inputs[name] = value.to(model.dtype)
    out: Tensor = model(**inputs, use_cache=False).last_hidden_state[:, -1]
    return out.float()

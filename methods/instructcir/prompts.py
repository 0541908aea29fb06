"""InstructCIR's prompts and how they become token rows, padded on the left.

Both prompts are those of the released code, the misspelling included: the weights were trained
with it (zhwl2117/InstructCIR).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from methods.core.device import moved
from methods.instructcir.trees import Row, Trees, planted

KEPT_PROMPTS = 2**14  # token rows that are kept
IMAGE = "<image>"
GALLERY = "<image>\n Describe this image in one word:"
QUERY = '<image>Modify this image with "{caption}", desribe modified image in one word:'


def query_prompt(caption: str) -> str:
    """The prompt of a reference image with its modification text.

    Raises:
        ValueError: the text holds the image placeholder itself.
    """
    if IMAGE in caption:
        raise ValueError(f"the text {caption[:80]!r} holds {IMAGE!r}, which stands for the image")
    return QUERY.replace("{caption}", caption)


@dataclass(frozen=True)
class Rows:
    """B token rows of L tokens, padded on the left, so that the last column is every row's end.

    ids, mask: (B, L) int64, mask 0 at padding. lengths: of the rows without padding, on the host.
    positions: (B, L) int64, or None for the model's.
    """

    ids: Tensor
    mask: Tensor
    lengths: tuple[int, ...]
    positions: Tensor | None = None


@dataclass(frozen=True)
class Words:
    """How one language model reads a prompt.

    encode: a prompt with at most one `<image>` -> its token ids, framed as a user's turn.
    image: id of the image token. image_tokens: how many of them an image takes.
    text_length: where set, positions of image tokens start there and the others count on without
        them (an image does not move the words that follow it).
    """

    encode: Callable[[str], list[int]]
    image: int
    image_tokens: int
    longest: int
    text_length: int | None = None
    _known: dict[str, Row] = field(default_factory=dict, repr=False, compare=False)

    def trees(self, prompts: Sequence[str], device: torch.device) -> Trees:
        """Prompts laid out as trees, for a model whose words say where they stand.

        Raises:
            ValueError: a prompt does not fit the model.
        """
        if len(self._known) > KEPT_PROMPTS:
            self._known.clear()
        for prompt in prompts:
            if prompt not in self._known:
                self._known[prompt] = Row.of(*self._row(prompt), self.image)
        return planted([self._known[prompt] for prompt in prompts], self.image, device)

    def rows(self, prompts: Sequence[str], device: torch.device) -> Rows:
        """Token rows of prompts.

        Raises:
            ValueError: a prompt does not fit the model.
        """
        found = [self._row(prompt) for prompt in prompts]
        width = max(len(ids) for ids, _ in found)

        def padded(rows: list[list[int]]) -> Tensor:
            return moved(torch.tensor([[0] * (width - len(r)) + r for r in rows]), device)

        mask = padded([[1] * len(ids) for ids, _ in found])
        own = None if self.text_length is None else padded([places for _, places in found])
        lengths = tuple(len(ids) for ids, _ in found)
        return Rows(padded([ids for ids, _ in found]), mask, lengths, own)

    def _row(self, prompt: str) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        places: list[int] = []
        own = self.text_length is not None  # image tokens have positions of their own
        words = 0
        for token in self.encode(prompt):
            count = self.image_tokens if token == self.image else 1
            start = self.text_length if own and token == self.image else words
            ids += [token] * count
            places += range(start or 0, (start or 0) + count)
            words += 0 if own and token == self.image else count
        if words > self.longest:
            raise ValueError(
                f"prompt of {words} tokens, the model takes {self.longest}: {prompt[:80]!r}...; "
                "shorten the text"
            )
        return ids, places


def chat_words(processor: Any, config: Any) -> Words:
    """The words of a released model: its own chat template, generation prompt appended.

    processor: transformers' LlavaProcessor. config: LlavaConfig.

    Raises:
        ValueError: there is no chat template, or it does not take a plain text.
    """
    tokenizer = processor.tokenizer
    place = tokenizer.convert_tokens_to_ids(IMAGE)
    image = int(config.image_token_index)
    if place != image:
        raise ValueError(f"the tokenizer reads {IMAGE!r} as {place}, the model wants {image}")
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    if template is None:
        raise ValueError("the weights come without a chat template; add chat_template.jinja")

    def encode(prompt: str) -> list[int]:
        turn = [{"role": "user", "content": prompt}]
        text = str(
            tokenizer.apply_chat_template(
                turn, chat_template=template, tokenize=False, add_generation_prompt=True
            )
        )
        if prompt not in text:
            raise ValueError(f"the chat template does not take a plain text: it gives {text!r}")
        ids: list[int] = tokenizer(text.removeprefix("<s>"))["input_ids"]
        return ids

    vision = config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    kept = patches + (config.vision_feature_select_strategy == "full")
    longest = int(getattr(config.text_config, "max_position_embeddings", 0)) or 1 << 30
    return Words(encode, image, kept, longest)

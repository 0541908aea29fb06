"""The shipped weights: they load, they are small, and they know what they were taught."""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data_recipes.openmoji.drawing import Nuisance, render
from data_recipes.openmoji.names import TONES, Drawing, people, roles, split_of
from data_recipes.openmoji.phrases import tone_phrase
from methods.core.backbone import WEIGHTS, Backbone, BackboneSpec, load_backbone

PLAIN = Nuisance((1.0, 1.0, 1.0), 1.0, 0.0, (0.0, 0.0), 1.0, 1.0, 0.0, 0.0, 0)


@cache
def backbone() -> Backbone:
    return load_backbone(BackboneSpec())


def seen(drawings: list[Drawing]) -> torch.Tensor:
    pictures = [Image.fromarray(render(d, 64, PLAIN)) for d in drawings]
    return backbone().encode_pixels(torch.stack([backbone().transform(p) for p in pictures]))


def test_the_file_is_small_and_its_digest_is_in_the_model_card() -> None:
    data = Path(WEIGHTS / "openmoji-vit.safetensors").read_bytes()
    assert len(data) < 12_000_000
    assert hashlib.sha256(data).hexdigest() in (WEIGHTS / "openmoji-vit.md").read_text()


def test_held_out_drawings_are_recognised() -> None:
    first = {d.role: d for d in people() if split_of(d) == "test"}
    names = sorted(first)
    texts = backbone().text.encode_texts([f"a photo of a {name}." for name in names])
    best = (seen([first[name] for name in names]) @ texts.T).argmax(dim=1).numpy()
    assert names == list(roles())
    assert (best == np.arange(len(names))).mean() > 0.7  # 0.8 when it was trained


def test_fragments_mean_their_attribute() -> None:
    tones = (None, *TONES)
    fragments = backbone().text.encode_texts([tone_phrase(tone) for tone in tones])
    held_out = [d for d in people() if split_of(d) == "test"]
    says = (seen(held_out) @ fragments.T).argmax(dim=1).tolist()
    right = [tones[said] == d.tone for said, d in zip(says, held_out, strict=True)]
    assert np.mean(right) > 0.85  # 0.95 when it was trained

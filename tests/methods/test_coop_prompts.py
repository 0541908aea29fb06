"""CoOp's prompts against the official construction, by token ids, positions and features.

The official construction (KaiyangZhou/CoOp, `trainers/coop.py`): the text "X X ... X name." is
tokenised; its embeddings are cut into start, context and suffix; the context is put in, and for
`middle` and `front` the first tokens of the suffix (the name) are moved; the sequence keeps the
backbone's whole length, and the end of text is where the tokenised text has it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.coop import CoOp, CoOpConfig
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.contract import TaskInfo

# Several tokens, underscores, digits, a stop or an apostrophe of its own, unknown words.
NAMES = ("farmer", "raised_fist", "2012 BMW M3 coupe", "etc.", "king's crown", "zxqvj", "Forest")
START, END = 49406, 49407


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(BackboneSpec())


def coop(backbone: Backbone, names: tuple[str, ...] = NAMES, **options: object) -> CoOp:
    torch.manual_seed(1)
    return CoOp(CoOpConfig.model_validate(options), backbone, TaskInfo("classification", names))


def official(backbone: Backbone, method: CoOp, names: tuple[str, ...]) -> Tensor:
    """Features (C, D) by the official construction, through open_clip's own modules."""
    model: Any = backbone.model
    position, m = method.config.class_token_position, method.config.length
    features = []
    for number, name in enumerate(names):
        plain = name.replace("_", " ")
        ids = backbone.text.tokenize([" ".join(["X"] * m) + f" {plain}."])
        (lone,) = backbone.text.tokenize([plain]).tolist()
        length = lone.index(END) - 1  # tokens of the name without the stop
        embedding = model.token_embedding(ids)[0]
        start, suffix = embedding[:1], embedding[1 + m :]
        own = method.ctx[number] if method.config.class_specific else method.ctx
        moved, rest = suffix[:length], suffix[length:]
        parts = {
            "end": [start, own, suffix],
            "middle": [start, own[: m // 2], moved, own[m // 2 :], rest],
            "front": [start, moved, own, rest],
        }[position]
        whole = torch.cat(parts)
        assert len(whole) == backbone.text.context_length
        features.append(run(backbone, whole, int(ids.argmax())))
    return torch.stack(features)


def run(backbone: Backbone, embeddings: Tensor, end: int) -> Tensor:
    """The feature (D,) of one sequence of embeddings (L, width), through open_clip's modules."""
    model: Any = backbone.model
    length = len(embeddings)
    x = (embeddings + model.positional_embedding[:length])[None]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    feature = model.ln_final(x)[0, end] @ model.text_projection
    return torch.nn.functional.normalize(feature, dim=-1)


VARIANTS = [
    {"n_ctx": m, "class_token_position": position, "class_specific": specific}
    for m in (4, 16)
    for position in ("end", "middle", "front")
    for specific in (False, True)
] + [{"n_ctx": 5, "class_token_position": position} for position in ("end", "front")]


@pytest.mark.parametrize("options", VARIANTS, ids=lambda o: "-".join(map(str, o.values())))
def test_features_and_gradients_equal_the_official_ones(
    backbone: Backbone, options: dict[str, object]
) -> None:
    method = coop(backbone, **options)
    with torch.no_grad():
        method.ctx.mul_(20)  # as large as words, so that a wrong place shows
    expected = official(backbone, method, NAMES)
    features = method.text(NAMES)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)
    weight = torch.randn_like(expected)
    (ours,) = torch.autograd.grad((features * weight).sum(), method.ctx)
    (theirs,) = torch.autograd.grad((expected * weight).sum(), method.ctx)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


# Token ids of CLIP's vocabulary.
FARMER, RAISED, FIST, STOP = 10474, 6027, 17085, 269
HAND_BUILT = {
    "end": {
        "farmer": [START, "v1", "v2", "v3", "v4", FARMER, STOP, END],
        "raised_fist": [START, "v1", "v2", "v3", "v4", RAISED, FIST, STOP, END],
    },
    "middle": {
        "farmer": [START, "v1", "v2", FARMER, "v3", "v4", STOP, END],
        "raised_fist": [START, "v1", "v2", RAISED, FIST, "v3", "v4", STOP, END],
    },
    "front": {
        "farmer": [START, FARMER, "v1", "v2", "v3", "v4", STOP, END],
        "raised_fist": [START, RAISED, FIST, "v1", "v2", "v3", "v4", STOP, END],
    },
}


@pytest.mark.parametrize("position", HAND_BUILT)
@pytest.mark.parametrize("specific", [False, True])
def test_the_prompts_are_those_built_by_hand(
    backbone: Backbone, position: str, specific: bool
) -> None:
    names = tuple(HAND_BUILT[position])
    method = coop(backbone, names, n_ctx=4, class_token_position=position, class_specific=specific)
    with torch.no_grad():
        method.ctx.mul_(20)
    features = method.text(names)
    table: Any = backbone.model.token_embedding.weight
    for number, name in enumerate(names):
        context = method.ctx[number] if specific else method.ctx
        rows = [
            context[int(token[1]) - 1] if isinstance(token, str) else table[token]
            for token in HAND_BUILT[position][name]
        ]
        own = run(backbone, torch.stack(rows), len(rows) - 1)
        torch.testing.assert_close(features[number], own, rtol=0, atol=1e-5)


@pytest.mark.parametrize("words", ["a photo of a", "a_photo_of_a", " a photo  of a"])
def test_words_start_the_context_one_token_each(backbone: Backbone, words: str) -> None:
    method = coop(backbone, ctx_init=words, n_ctx=16)
    ids = backbone.text.tokenize(["a photo of a"])[0, 1:5]
    assert torch.equal(method.ctx, backbone.text.embed(ids)) and method.config.length == 4
    assert not method.ctx.is_set_to(backbone.text.embed(ids))


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 16 * 128),
        ({"n_ctx": 4}, 4 * 128),
        ({"ctx_init": "a photo of a"}, 4 * 128),
        ({"class_specific": True}, len(NAMES) * 16 * 128),
        ({"class_specific": True, "n_ctx": 4}, len(NAMES) * 4 * 128),
    ],
)
def test_the_context_is_m_times_width_for_each_class_or_for_all(
    backbone: Backbone, options: dict[str, object], count: int
) -> None:
    method = coop(backbone, **options)
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == count
    assert {k: v.numel() for k, v in method.learned().items()} == {"ctx": count}


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_a_learned_context_meets_other_classes(backbone: Backbone, position: str) -> None:
    """What the official code does by dropping the stored words: only the context travels."""
    options: dict[str, object] = {"n_ctx": 4, "class_token_position": position}
    base = coop(backbone, NAMES[:3], **options)
    with torch.no_grad():
        base.ctx.mul_(20)
    new = coop(backbone, NAMES[3:], **options)
    new.load_learned(base.learned())
    expected = official(backbone, base, NAMES[3:])
    torch.testing.assert_close(new.text(NAMES[3:]), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(base.text(NAMES[3:]), expected, rtol=0, atol=1e-5)


def test_a_context_of_each_class_meets_no_others(backbone: Backbone) -> None:
    base = coop(backbone, NAMES[:3], class_specific=True)
    with pytest.raises(ValueError, match="cannot transfer"):
        base.text(NAMES[3:])
    with pytest.raises(RuntimeError, match="size mismatch for ctx"):
        coop(backbone, NAMES[3:], class_specific=True).load_learned(base.learned())
    reason = CoOp.unfit_classes(base.config)
    assert reason == "with class_specific knows only the classes it learned on"
    assert CoOp.unfit_classes(CoOpConfig()) is None

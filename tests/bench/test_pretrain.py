"""Pre-training: the loss, true pairs, and a run that is resumed, repeated and exported."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from bench import pretrain
from bench.pretrain_captions import ANY, ATTRIBUTES, World, matches
from bench.pretrain_pictures import pictures, rasters, weakened
from data_recipes.openmoji.drawing import DOWNSTREAM, PRETRAINING, draw, render
from data_recipes.openmoji.names import Drawing, drawings, people, split_of

TINY = pretrain.Recipe(
    steps=4,
    batch=8,
    warmup=2,
    image_size=16,
    embed_dim=16,
    vision_width=32,
    vision_layers=1,
    text_width=32,
    text_layers=1,
)


@pytest.fixture(autouse=True)
def few_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    few = [d for d in people() if d.role in ("farmer", "pilot", "raised fist")]
    monkeypatch.setattr(pretrain, "drawings", lambda: tuple(few))


def weights(training: pretrain.Training) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in training.model.state_dict().items()}


def test_a_run_repeats_itself_and_can_be_resumed(tmp_path: Path) -> None:
    whole = pretrain.pretrain(TINY, tmp_path, tmp_path / "whole.pt")
    first = pretrain.Training(TINY)
    first.step()
    first.step()
    first.save(tmp_path / "half.pt")
    resumed = pretrain.pretrain(TINY, tmp_path, tmp_path / "half.pt")
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    pretrain.Training(TINY).save(tmp_path / "a.pt")
    with pytest.raises(SystemExit, match="another recipe"):
        pretrain.Training(replace(TINY, seed=1)).load(tmp_path / "a.pt")


def test_the_export_encodes_text_as_the_trained_model_does(tmp_path: Path) -> None:
    training = pretrain.pretrain(TINY, tmp_path, tmp_path / "a.pt")
    config = json.loads((tmp_path / "openmoji-vit.json").read_text())
    assert set(config["preprocess_cfg"]) == {"size", "mean", "std", "interpolation"}
    state = load_file(tmp_path / "openmoji-vit.safetensors")
    rows, ids = state.pop("token_embedding.rows"), state.pop("token_embedding.ids")
    table = torch.zeros(49408, rows.shape[1])
    table[ids] = rows.float()
    model = open_clip.model.CLIP(**config["model_cfg"]).eval()
    model.load_state_dict(
        {k: v.float() for k, v in state.items()} | {"token_embedding.weight": table}
    )
    texts = ["a photo of a farmer.", "as a man with dark skin tone"]
    tokens = open_clip.get_tokenizer("ViT-B-32")(texts)
    training.model.eval()
    with torch.no_grad():
        expected = pretrain.encode_text(training.model, training.vocabulary.rows(texts))
        assert torch.allclose(model.encode_text(tokens), expected, atol=0.02)


def test_the_loss_ignores_other_positives() -> None:
    similarity = torch.tensor([[2.0, 5.0, 0.0], [1.0, 1.0, 1.0]])
    positive = torch.tensor([[True, True, False], [False, False, False]])
    # The row without a positive is skipped; each positive competes with the one negative only.
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-5.0))) / 2
    assert float(pretrain.contrastive_loss(similarity, positive)) == pytest.approx(expected)


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    recipe = pretrain.Recipe(steps=100, warmup=10)
    rates = [pretrain.learning_rate(recipe, step) for step in range(101)]
    assert rates[0] == pytest.approx(recipe.rate / 10)
    assert max(rates) == pytest.approx(recipe.rate)
    assert rates[100] == pytest.approx(0.0)


def test_a_caption_is_true_of_its_drawing_and_says_what_it_claims() -> None:
    world = World(people())
    rng = np.random.default_rng(0)
    for index in range(0, len(world.drawings), 7):
        text, claims = world.caption(index, rng)
        drawing = world.drawings[index]
        assert matches(world.truth[[index]], np.array([claims])).all()
        claimed = dict(zip(ATTRIBUTES, claims, strict=True))
        assert (claimed["tone"] != ANY) == any(
            word in text for word in (f"{drawing.tone} skin", "yellow skin")
        )


def test_a_caption_about_one_attribute_is_true_of_all_who_have_it() -> None:
    dark = [d for d in people() if d.tone == "dark"][:5]
    light = [d for d in people() if d.tone == "light"][:5]
    world = World([*dark, *light])
    claims = np.array([[ANY, ANY, world.truth[0, 2], ANY, ANY]])
    assert matches(world.truth, claims)[:, 0].tolist() == [True] * 5 + [False] * 5


def test_the_vocabulary_knows_every_word_of_the_captions() -> None:
    world = World([d for d in drawings() if split_of(d) == "pretrain"])
    vocabulary = pretrain.Vocabulary(world.texts())
    assert len(vocabulary.ids) < 3000
    rng = np.random.default_rng(0)
    texts = [world.caption(i, rng)[0] for i in range(len(world.drawings))]
    assert torch.isin(open_clip.get_tokenizer("ViT-B-32")(texts), vocabulary.ids).all()


@pytest.mark.parametrize("seed", range(3))
def test_batched_pictures_look_like_rendered_ones(seed: int) -> None:
    drawing: Drawing = people()[100 * seed]
    nuisance = replace(draw(np.random.default_rng(seed), DOWNSTREAM), noise=0.0)
    batch = pictures(rasters([drawing], 64), [nuisance], torch.Generator())
    expected = render(drawing, 64, nuisance).astype(float) / 255
    assert np.abs(batch[0].permute(1, 2, 0).numpy() - expected).mean() < 0.01


def test_a_weak_style_is_nearly_plain() -> None:
    assert weakened(PRETRAINING, 1.0).scale == PRETRAINING.scale
    plain = draw(np.random.default_rng(0), weakened(PRETRAINING, 0.0))
    assert plain.background == (1.0, 1.0, 1.0)
    assert (plain.scale, plain.rotation, plain.noise) == (1.0, 0.0, 0.0)

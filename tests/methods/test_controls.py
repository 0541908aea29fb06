"""The training-free methods."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.contract import Batch, TaskInfo
from methods.image_only import ImageOnly
from methods.image_plus_text import ImagePlusText, ImagePlusTextConfig
from methods.text_only import TextOnly
from methods.zero_shot import ZeroShot, ZeroShotConfig

COMPOSED = TaskInfo("composed")
TEXTS = ["with dark skin tone", "as a man"]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(BackboneSpec())


@pytest.fixture
def images(backbone: Backbone) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(2, backbone.dim), dim=-1)


def test_one_template_is_the_plain_prompt(backbone: Backbone) -> None:
    task = TaskInfo("classification", ("farmer", "judge"), ("an emoji of a {}.",))
    expected = backbone.text.encode_texts(["an emoji of a farmer.", "an emoji of a judge."])
    features = ZeroShot(ZeroShotConfig(), backbone, task).text(task.class_names)
    torch.testing.assert_close(features, expected)


def test_an_ensemble_is_the_normalised_mean(backbone: Backbone) -> None:
    task = TaskInfo("classification", ("farmer", "judge"))
    config = ZeroShotConfig(templates=["a photo of a {}.", "a drawing of a {}."])
    first = backbone.text.encode_texts(["a photo of a judge."])
    second = backbone.text.encode_texts(["a drawing of a judge."])
    expected = torch.nn.functional.normalize(first + second, dim=-1)
    features = ZeroShot(config, backbone, task).text(task.class_names)
    torch.testing.assert_close(features[1:], expected)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("template", ["no slot", "{} and {}"])
def test_a_template_needs_one_slot(template: str) -> None:
    with pytest.raises(ValidationError, match="exactly one"):
        ZeroShotConfig(templates=[template])


def test_the_controls_use_what_their_names_say(backbone: Backbone, images: torch.Tensor) -> None:
    batch = Batch(images=images, texts=TEXTS)
    texts = backbone.text.encode_texts(TEXTS)
    by_image = ImageOnly(ImageOnly.Config(), backbone, COMPOSED).query(batch)
    by_text = TextOnly(TextOnly.Config(), backbone, COMPOSED).query(batch)
    assert torch.equal(by_image, images) and torch.equal(by_text, texts)
    both = ImagePlusText(ImagePlusTextConfig(), backbone, COMPOSED).query(batch)
    torch.testing.assert_close(both, torch.nn.functional.normalize(images + texts, dim=-1))
    for weight, expected in ((0.0, images), (1.0, texts)):
        config = ImagePlusTextConfig(text_weight=weight)
        torch.testing.assert_close(ImagePlusText(config, backbone, COMPOSED).query(batch), expected)


def test_a_method_refuses_a_task_it_does_not_do(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="'image-only' does composed, not classification"):
        ImageOnly(ImageOnly.Config(), backbone, TaskInfo("classification", ("a",)))

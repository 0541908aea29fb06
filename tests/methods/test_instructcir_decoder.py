"""The small model's own reading equals transformers' forward, in values and gradients."""

from __future__ import annotations

import pytest
import torch

from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.contract import TaskInfo
from methods.instructcir.decoder import end_state
from methods.instructcir.lite import InstructCIRLite
from methods.instructcir.options import InstructCIRLiteConfig
from methods.instructcir.prompts import GALLERY, query_prompt
from methods.instructcir.reading import last_state

QUERIES = [query_prompt(text) for text in ("a", "make it blue now", "with a hat and two dogs")]


@pytest.fixture(scope="module", params=["embedded", "tiny"])
def method(request: pytest.FixtureRequest) -> InstructCIRLite:
    embedded = request.param == "embedded"
    backbone: Backbone = (
        load_backbone(BackboneSpec()) if embedded else request.getfixturevalue("tiny_backbone")
    )
    torch.manual_seed(3)
    made = InstructCIRLite(InstructCIRLiteConfig(), backbone, TaskInfo("composed"))
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "lora_B" in name:  # they start at nothing
                value.normal_(std=0.02)
    return made


@pytest.mark.parametrize("prompts", [QUERIES, [GALLERY] * 3, QUERIES[:1]])
@pytest.mark.parametrize("seen", [True, False])
def test_states_and_gradients_are_those_of_transformers(
    method: InstructCIRLite, prompts: list[str], seen: bool
) -> None:
    vision = method._vision[0]
    prompts = prompts if seen else [prompt.replace("<image>", "") for prompt in prompts]
    rows = method.words.rows(prompts, torch.device("cpu"))
    trees = method.words.trees(prompts, torch.device("cpu"))
    states = vision.shaped(torch.randn(len(prompts), vision.dim)) if seen else None
    aim = torch.randn(len(prompts), method.backbone.text.width)
    found, slopes = [], []
    learned = {n: p for n, p in method.named_parameters() if p.requires_grad}
    for own in (True, False):
        method.zero_grad()
        found.append(
            end_state(method.llava, trees, states)
            if own
            else last_state(method.llava, rows, states)
        )
        (found[-1] * aim).sum().backward()
        slopes.append({n: p.grad.clone() for n, p in learned.items() if p.grad is not None})
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
    assert slopes[0].keys() == slopes[1].keys() and len(slopes[0]) > 20
    for name, slope in slopes[1].items():
        apart = (slopes[0][name] - slope).abs().max()
        assert apart <= 1e-4 * slope.abs().max() + 1e-6, name
    with torch.no_grad():
        merged = end_state(method.llava, trees, states)
    torch.testing.assert_close(merged, found[1].detach(), rtol=1e-5, atol=1e-5)


def test_prompts_with_and_without_images_in_one_pass_are_those_of_two(
    method: InstructCIRLite,
) -> None:
    vision, device = method._vision[0], torch.device("cpu")
    captions = ["a red hat", "a red", "a dog", "a red hat"]
    states = vision.shaped(torch.randn(len(QUERIES), vision.dim))
    with torch.no_grad():
        both = end_state(method.llava, method.words.trees([*QUERIES, *captions], device), states)
        seen = last_state(method.llava, method.words.rows(QUERIES, device), states)
        told = last_state(method.llava, method.words.rows(captions, device), None)
    torch.testing.assert_close(both, torch.cat([seen, told]), rtol=1e-5, atol=1e-5)

"""Names in the published numbers exist here: methods, options, datasets, protocols, metrics."""

from __future__ import annotations

import json

import open_clip
import pytest

from data_recipes.core.protocol import protocol
from data_recipes.core.registry import recipes
from methods.core.registry import method
from results.published import published

TABLE = published()
OURS = TABLE[TABLE["dataset"] != ""]


def test_methods_and_their_options_exist() -> None:
    used = TABLE.loc[TABLE["method"] != "", ["method", "options"]].drop_duplicates()
    assert {"coop", "dcar", "zero-shot", "image-only"} <= set(used["method"])
    for name, options in used.itertuples(index=False):
        config = method(name).Config.model_validate(json.loads(options or "{}"))
        assert json.loads(options or "{}").items() <= config.model_dump().items()


@pytest.mark.parametrize("name", sorted(set(TABLE["backbone"]) - {""}))
def test_backbones_are_known_to_open_clip(name: str) -> None:
    model, pretrained = name.split("/")
    assert open_clip.get_model_config(model) is not None
    # The tag is one of the plain architecture; `-quickgelu` is the activation it needs.
    known = open_clip.list_pretrained_tags_by_model(model.removesuffix("-quickgelu"))
    assert pretrained in known


def test_datasets_protocols_and_metrics_exist() -> None:
    assert set(OURS["dataset"]) <= set(recipes())
    for name, metric in OURS[["protocol", "metric"]].drop_duplicates().itertuples(index=False):
        rules = protocol(name)
        prefixes = [prefix for _, prefix in rules.prefixes] or [""]
        known = {f"{prefix}{metric}" for prefix in prefixes for metric in rules.metrics}
        assert metric.rpartition("/")[2] in known, (name, metric)

"""A LLaVA-class model made of a CLIP-like backbone's own towers: the default of instructcir-lite.

Its vision tower is the backbone's, in the layout of HF's CLIPVisionModel. Its language model is an
OPT model, which is what CLIP's text tower is, a pre-norm causal transformer with learned positions:
it starts from the backbone's text tower and so knows its words. Image tokens have positions of
their own behind the text's, so that a text is encoded as the text tower does, whatever stands
before it. The projector between the two starts random, as LLaVA's does.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from methods.core.backbone import Backbone


def small_llava(backbone: Backbone, image_tokens: int | None = None) -> Any:
    """`LlavaModel` over the backbone's towers; draws the projector from torch's random state.

    image_tokens: of an image, None: all its patches. They have positions behind the text's.
    The token after the vocabulary's last is the image token.

    Raises:
        ValueError: the towers are no plain ViT and causal text transformer of open_clip.
    """
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaModel, OPTConfig

    vision, text = _towers(backbone)
    image_tokens = image_tokens or (vision.image_size[0] // vision.patch_size[0]) ** 2
    width, text_width = int(vision.conv1.out_channels), backbone.text.width
    vocabulary, length = int(text.token_embedding.weight.shape[0]), int(text.context_length)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=_hidden(vision.transformer),
            num_hidden_layers=len(vision.transformer.resblocks),
            num_attention_heads=vision.transformer.resblocks[0].attn.num_heads,
            image_size=vision.image_size[0],
            patch_size=vision.patch_size[0],
            hidden_act=_activation(vision.transformer),
            layer_norm_eps=vision.ln_post.eps,
        ),
        text_config=OPTConfig(
            vocab_size=vocabulary + 1,
            hidden_size=text_width,
            word_embed_proj_dim=text_width,
            ffn_dim=_hidden(text.transformer),
            num_hidden_layers=len(text.transformer.resblocks),
            num_attention_heads=text.transformer.resblocks[0].attn.num_heads,
            max_position_embeddings=length + image_tokens,
            activation_function=_activation(text.transformer),
            dropout=0.0,
            attention_dropout=0.0,
            layerdrop=0.0,
            pad_token_id=0,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            use_cache=False,
        ),
        image_token_index=vocabulary,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    model = LlavaModel(config)
    model.vision_tower.load_state_dict(_vision_state(vision))
    decoder = model.language_model.decoder
    offset = decoder.embed_positions.offset
    with torch.no_grad():
        decoder.embed_tokens.weight.zero_()
        decoder.embed_tokens.weight[:vocabulary] = text.token_embedding.weight
        decoder.embed_positions.weight.zero_()
        decoder.embed_positions.weight[offset : offset + length] = text.positional_embedding
    missing, surplus = decoder.load_state_dict(_text_state(text), strict=False)
    assert set(missing) == {"embed_tokens.weight", "embed_positions.weight"} and not surplus
    return model


def _towers(backbone: Backbone) -> tuple[Any, Any]:
    vision = cast(Any, backbone.model).visual
    text: Any = getattr(backbone.model, "text", backbone.model)
    plain = (
        hasattr(vision, "class_embedding")
        and hasattr(vision, "transformer")
        and getattr(vision, "attn_pool", None) is None
        and isinstance(vision.ln_pre, nn.LayerNorm)
        and getattr(vision, "pool_type", None) == "tok"
        and vision.image_size[0] == vision.image_size[1]
    )
    blocks = [*vision.transformer.resblocks, *text.transformer.resblocks] if plain else [None]
    if not all(type(block).__name__ == "ResidualAttentionBlock" for block in blocks):
        raise ValueError(
            f"backbone {backbone.spec.label!r}: without `model`, instructcir-lite is made of a "
            "plain ViT and a causal text transformer; use such a backbone, or give `model: PATH`"
        )
    return vision, text


def _hidden(transformer: Any) -> int:
    return int(transformer.resblocks[0].mlp.c_fc.out_features)


def _activation(transformer: Any) -> str:
    name = type(transformer.resblocks[0].mlp.gelu).__name__
    return {"GELU": "gelu", "QuickGELU": "quick_gelu"}[name]


def _block(block: Any, names: dict[str, str]) -> dict[str, Tensor]:
    """One transformer block; `names`: of its parts in open_clip -> in transformers."""
    state: dict[str, Tensor] = {}
    for part, name in names.items():
        module = block.get_submodule(part)
        state |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    for kind in ("weight", "bias"):
        parts = getattr(block.attn, f"in_proj_{kind}").chunk(3)
        for name, value in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
            state[f"self_attn.{name}.{kind}"] = value
    return state


def _vision_state(vision: Any) -> dict[str, Tensor]:
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj"}
    names |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    state = {
        "embeddings.class_embedding": vision.class_embedding,
        "embeddings.patch_embedding.weight": vision.conv1.weight,
        "embeddings.position_embedding.weight": vision.positional_embedding,
        "pre_layrnorm.weight": vision.ln_pre.weight,
        "pre_layrnorm.bias": vision.ln_pre.bias,
        "post_layernorm.weight": vision.ln_post.weight,
        "post_layernorm.bias": vision.ln_post.bias,
    }
    for number, block in enumerate(vision.transformer.resblocks):
        for name, value in _block(block, names).items():
            state[f"encoder.layers.{number}.{name}"] = value
    return {name: value.detach() for name, value in state.items()}


def _text_state(text: Any) -> dict[str, Tensor]:
    names = {"ln_1": "self_attn_layer_norm", "ln_2": "final_layer_norm"}
    names |= {"attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "fc1", "mlp.c_proj": "fc2"}
    state = {
        "final_layer_norm.weight": text.ln_final.weight,
        "final_layer_norm.bias": text.ln_final.bias,
    }
    for number, block in enumerate(text.transformer.resblocks):
        for name, value in _block(block, names).items():
            state[f"layers.{number}.{name}"] = value
    return {name: value.detach() for name, value in state.items()}

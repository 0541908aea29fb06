"""Reading an embedding off a LLaVA-class model: the last layer's state at the last token."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from methods.instructcir.prompts import Rows


def patches(model: Any, pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) -> the vision tower's patch states (B, P, width) before the projector.

    Layer and class token as the model's config says (LLaVA: last but one, dropped).
    """
    tower = model.vision_tower
    states = tower(pixels.to(tower.dtype), output_hidden_states=True).hidden_states
    state: Tensor = states[model.config.vision_feature_layer]
    return state if model.config.vision_feature_select_strategy == "full" else state[:, 1:]


def last_state(model: Any, rows: Rows, image_states: Tensor | None) -> Tensor:
    """The final state (B, width of the language model) of each row's last token.

    image_states: (B, image tokens, vision width), projected here; None for rows without an image.
    """
    language = model.language_model
    embeddings = language.get_input_embeddings()(rows.ids)
    if image_states is not None:
        linear = next(model.multi_modal_projector.parameters())
        projected = model.multi_modal_projector(image_states.to(linear.dtype))
        here = (rows.ids == model.config.image_token_index)[..., None]
        embeddings = embeddings.masked_scatter(here, projected.to(embeddings.dtype))
    places = {} if rows.positions is None else {"position_ids": rows.positions}
    out = language(
        inputs_embeds=embeddings, attention_mask=rows.mask, use_cache=False, **places
    ).last_hidden_state[:, -1]
    state: Tensor = out.float()
    return state

"""The small model's reading of an embedding, with no token computed that nobody reads.

What `reading.last_state` gives for OPT (transformers' own forward over padded rows, all states of
all layers), with the same modules: rows are packed, so that only attention sees padding; the last
layer runs at each row's last token alone, for of the others it needs keys and values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from methods.core.device import moved
from methods.instructcir.prompts import Rows


def end_state(model: Any, rows: Rows, image_states: Tensor | None) -> Tensor:
    """The final state (B, width) of each row's last token, by an OPT model without dropout.

    image_states: (B, image tokens, vision width), projected here; None for rows without an image.
    """
    decoder, device = model.language_model.decoder, rows.ids.device
    lengths = torch.tensor(rows.lengths)
    count, longest = rows.ids.shape
    place = torch.arange(longest)
    real = place < lengths[:, None]
    # Token j of row r stands at `slots` among B x L places, padded at the end; in `rows` padded
    # at the front. All found on the host: a mask would make it wait for a GPU.
    slots = moved(real.flatten().nonzero().flatten(), device)
    given = moved(real.flip(1).flatten().nonzero().flatten(), device)
    ends, seen = moved(lengths.cumsum(0) - 1, device), moved(real[:, None, None], device)
    ids = rows.ids.flatten()[given]
    x = decoder.embed_tokens(ids)
    if image_states is not None:
        projected = model.multi_modal_projector(image_states)
        here = (ids == model.config.image_token_index)[:, None]
        x = x.masked_scatter(here, projected.to(x.dtype))
    assert rows.positions is not None, "the small model's words say where they stand"
    places = rows.positions.flatten()[given]
    x = x + decoder.embed_positions(None, position_ids=places)
    full = len(ids) == count * longest

    def padded(states: Tensor) -> Tensor:
        """(T, width) -> (B, heads, L, width / heads)."""
        if not full:
            blank = states.new_zeros(count * longest, states.shape[1])
            states = blank.index_copy(0, slots, states)
        return states.view(count, longest, heads, -1).transpose(1, 2)

    last = len(decoder.layers) - 1
    for number, layer in enumerate(decoder.layers):
        attention, heads = layer.self_attn, layer.self_attn.num_heads
        normed = layer.self_attn_layer_norm(x)
        k, v = padded(attention.k_proj(normed)), padded(attention.v_proj(normed))
        if number == last:
            x, normed = x.index_select(0, ends), normed.index_select(0, ends)
            q = attention.q_proj(normed).view(count, 1, heads, -1).transpose(1, 2)
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
            mixed = mixed.transpose(1, 2).reshape(count, -1)
        else:
            q = padded(attention.q_proj(normed))
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            mixed = mixed.transpose(1, 2).reshape(count * longest, -1)
            mixed = mixed if full else mixed.index_select(0, slots)
        x = x + attention.out_proj(mixed)
        x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
    state: Tensor = decoder.final_layer_norm(x).float()
    return state

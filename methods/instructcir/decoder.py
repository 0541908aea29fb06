"""The small model's reading of an embedding, with no token computed that nobody reads.

What `reading.last_state` gives for OPT (transformers' own forward over padded rows, all states of
all layers), with the same modules: what rows begin with alike runs once, only attention sees
padding, the first layer projects each distinct word once, and the last layer runs at each row's
last token alone, for of the others it needs keys and values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from methods.instructcir.trees import Trees


def end_state(model: Any, trees: Trees, image_states: Tensor | None) -> Tensor:
    """The final state (N, width) of each prompt's last token, by an OPT model without dropout.

    image_states: (images, image tokens, vision width) of the prompts that have one, in their order,
    projected here; None where none has.
    """
    decoder, blocks = model.language_model.decoder, trees.blocks
    count, size = len(blocks.mask), blocks.places
    words = decoder.embed_tokens(trees.ids)
    words = words + decoder.embed_positions(None, position_ids=trees.positions)
    if image_states is not None:
        seen = model.multi_modal_projector(image_states).flatten(0, 1).to(words.dtype)
        seen = seen + decoder.embed_positions(None, position_ids=trees.image_positions)
        words = torch.cat([words, seen])

    def padded(states: Tensor) -> Tensor:
        """(T, width) -> (B * R, width)."""
        blank = states.new_zeros(count * size, states.shape[1])
        return blank.index_copy(0, trees.used, states)

    def by_word(states: Tensor) -> Tensor:
        """(U + I, width) -> (B * R, width)."""
        return states.index_select(0, trees.at)

    def by_head(states: Tensor) -> Tensor:
        """(B * n, width) -> (B, heads, n, width / heads)."""
        return states.view(count, len(states) // count, heads, -1).transpose(1, 2)

    def attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """(B * n, width) of queries and of keys and values at all places -> (B * n, width)."""
        q, k, v = by_head(q), by_head(k), by_head(v)
        mixed = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask[:, None].to(q.dtype)
        )
        return mixed.transpose(1, 2).reshape(-1, mixed.shape[1] * mixed.shape[3])

    x = words.index_select(0, trees.at[trees.used])
    last = len(decoder.layers) - 1
    for number, layer in enumerate(decoder.layers):
        attention, heads = layer.self_attn, layer.self_attn.num_heads
        normed = layer.self_attn_layer_norm(x if number else words)
        placed = padded if number else by_word
        k, v = placed(attention.k_proj(normed)), placed(attention.v_proj(normed))
        if number == last:
            x = x.index_select(0, trees.ends)
            q = attention.q_proj(layer.self_attn_layer_norm(x))
            asked = q.new_zeros(len(blocks.asked), q.shape[1]).index_copy(0, blocks.among, q)
            mixed = attended(asked, k, v, blocks.mask_last).index_select(0, blocks.among)
        else:
            q = placed(attention.q_proj(normed))
            mixed = attended(q, k, v, blocks.mask).index_select(0, trees.used)
        x = x + attention.out_proj(mixed)
        x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
    state: Tensor = decoder.final_layer_norm(x.index_select(0, blocks.given)).float()
    return state

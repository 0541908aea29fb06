"""The frozen vision transformer, run from its patches, so that learned tokens can stand among them.

open_clip's own forward takes pixels alone. Here prompt tokens are appended behind the class token
and the patches, before the first layer and, when they are deep, anew before each further layer.
With no prompts the features are those of `model.encode_image`.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from methods.core.shared_prefix import finish, shareable

CPU_ROWS = 32  # images at a time on a CPU: more states than fit its caches take a third longer


class VisionTower:
    """Image encoder of an open_clip model with a plain vision transformer.

    width: size of a token. layers: number of transformer layers. image_size: (H, W) in pixels.

    Raises:
        ValueError: the image encoder is no plain vision transformer (a ResNet, a timm model), or
            pools in a way that does not say what prompt tokens should do.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        tower: Any = getattr(model, "visual", None)
        reason = _unfit(tower)
        if reason is not None:
            raise ValueError(
                f"backbone {name!r}: methods with image prompts need a plain vision transformer "
                f"of open_clip, for instance ViT-B-32-quickgelu; {reason}"
            )
        self._tower = tower
        self.width = int(tower.class_embedding.shape[0])
        self.layers = len(tower.transformer.resblocks)
        # Where the class token alone is pooled, the last layer's other states are never read.
        self._plain = shareable(tower.transformer)
        self._alone = tower.pool_type == "tok" and self._plain
        self.image_size = cast(tuple[int, int], tuple(tower.image_size))

    @property
    def device(self) -> torch.device:
        """Where the tower's weights are."""
        return cast(torch.device, self._tower.class_embedding.device)

    def encode(self, pixels: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Transformed images (B, 3, H, W) -> unit-norm float32 features (B, D).

        prompts: (J, k, width), 1 <= J <= layers. The first k tokens enter beside the patches (and
            pass the norm before the first layer, as these do); the states at their places are
            replaced by the next k before each of the layers 2 to J (MaPLe's deep prompting).
        """
        pooled = self.pooled(pixels, prompts)
        if self._tower.proj is not None:
            pooled = pooled @ self._tower.proj
        return nn.functional.normalize(pooled.float(), dim=-1)

    def pooled(self, pixels: Tensor, prompts: Tensor | None = None) -> Tensor:
        """What `encode` projects: transformed images -> pooled states (B, width)."""
        pixels = pixels.to(self.device)
        size = CPU_ROWS if pixels.device.type == "cpu" else max(1, len(pixels))
        return torch.cat([self._pooled(part, prompts) for part in torch.split(pixels, size)])

    @torch.no_grad()
    def patch_states(self, pixels: Tensor) -> Tensor:
        """Mean state of the images' patches where each layer's prompts enter: (layers, width).

        For the first layer that is before the norm which precedes it.
        """
        tower = self._tower
        patches = tower.conv1(pixels.to(self.device)).flatten(2).transpose(1, 2)
        means = [(patches + tower.positional_embedding[1:]).mean(dim=(0, 1))]
        x = tower._embeds(pixels.to(self.device))
        for block in tower.transformer.resblocks[:-1]:
            x = block(x)
            means.append(x[:, 1:].mean(dim=(0, 1)))
        return torch.stack(means)

    def _pooled(self, pixels: Tensor, prompts: Tensor | None) -> Tensor:
        tower = self._tower
        x = tower._embeds(pixels)  # (B, 1 + patches, width)
        own, last = x.shape[1], self.layers - 1
        depth = 0 if prompts is None else len(prompts)
        for layer, block in enumerate(tower.transformer.resblocks):
            replaced = layer + 1 < depth  # the next layer's prompts take the place of these
            beside = None
            if prompts is not None and layer < depth:
                new = prompts[layer] if layer else tower.ln_pre(prompts[0])
                if replaced and self._plain:
                    beside = new
                else:
                    x = torch.cat([x, _rows(new, x)], dim=1)
            if not self._plain:
                x = block(x)
            elif layer == last and self._alone:
                x = _first(block, x)
            else:
                x = _layer(block, x, beside)
            if replaced:
                x = x[:, :own]
        pooled: Tensor = tower._pool(x[:, :own])[0]
        return pooled


def _layer(block: Any, x: Tensor, beside: Tensor | None = None) -> Tensor:
    """A plain block's states (B, L, width); x is given up.

    beside: prompts (k, width) that x attends to and whose own states nobody reads: they need keys
        and values alone, and the same ones for every image.

    torch's own attention module multiplies out all weights when no gradient is asked for; its
    fused product does not, and takes a third of the time.
    """
    attn, width = block.attn, x.shape[-1]
    weight, bias = attn.in_proj_weight, attn.in_proj_bias
    made = nn.functional.linear(block.ln_1(x), weight, bias)
    if beside is None:
        parts = made.chunk(3, dim=-1)
    else:
        new = block.ln_1(beside.to(x.dtype))
        new = nn.functional.linear(new, weight[width:], bias[width:])
        q, others = torch.split(made, [width, 2 * width], dim=-1)
        parts = (q, *torch.cat([others, _rows(new, others)], dim=1).chunk(2, dim=-1))
    heads = (attn.num_heads, width // attn.num_heads)
    q, k, v = (part.reshape(*part.shape[:2], *heads).transpose(1, 2) for part in parts)
    mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return _finish(block, x, mixed)


def _first(block: Any, x: Tensor) -> Tensor:
    """A plain block's state of the first token alone: (B, L, width) -> (B, 1, width).

    One query a head asks for no keys and values: q (W s + b) is (q W) s and a constant, which
    softmax does not see; the sum of a (W s + b) is W (sum of a s) + b, since all a add up to 1.
    """
    attn, width = block.attn, x.shape[-1]
    heads, size = attn.num_heads, width // attn.num_heads
    seen = block.ln_1(x)
    of_q, of_k, of_v = attn.in_proj_weight.view(3, width, width)
    bias_q, _, bias_v = attn.in_proj_bias.view(3, width)
    q = nn.functional.linear(seen[:, 0], of_q, bias_q).view(-1, heads, size)
    asked = (q.transpose(0, 1) @ of_k.view(heads, size, width)).transpose(0, 1)
    share = (asked @ seen.transpose(1, 2) * size**-0.5).softmax(dim=-1)  # (B, heads, L)
    found = (share.to(seen.dtype) @ seen).transpose(0, 1)
    mixed = found @ of_v.view(heads, size, width).transpose(1, 2)
    return _finish(block, x[:, :1], mixed.transpose(0, 1).flatten(1) + bias_v)


def _finish(block: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a plain block behind its attention; in place where no gradient is asked for."""
    flat, mixed = x.reshape(-1, x.shape[-1]), mixed.reshape(-1, x.shape[-1])
    mlp, out = block.mlp, block.attn.out_proj
    unscaled = isinstance(block.ls_1, nn.Identity) and isinstance(block.ls_2, nn.Identity)
    plain = unscaled and type(mlp.gelu) is nn.GELU
    if torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type) or not plain:
        return finish(block, flat, mixed).view(x.shape)
    flat.add_(out.bias).addmm_(mixed, out.weight.t())
    wide = mlp.c_fc(block.ln_2(flat))
    torch.ops.aten.gelu_(wide, approximate=mlp.gelu.approximate)
    return flat.add_(mlp.c_proj.bias).addmm_(wide, mlp.c_proj.weight.t()).view(x.shape)


def _rows(prompts: Tensor, x: Tensor) -> Tensor:
    """Prompts (k, width) for every row of x: (B, k, width)."""
    return prompts.to(x.dtype).expand(len(x), -1, -1)


def _unfit(tower: Any) -> str | None:
    """Why prompts cannot stand in this image encoder; None where they can."""
    if not isinstance(tower, VisionTransformer):
        return f"this one is a {type(tower).__name__}"
    if tower.attn_pool is not None:
        return "this one has an attentional pooler"
    if tower.pool_type not in ("tok", "avg"):
        return f"this one pools by {tower.pool_type!r}"
    return None

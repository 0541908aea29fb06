"""Pre-train the embedded backbone `openmoji-vit` and export its weights.

    OMP_WAIT_POLICY=PASSIVE python -m bench.pretrain --out methods/weights

(Without that policy OpenMP's threads wait by spinning, and on a machine that does anything else
a step takes up to nine times as long.)

A small open_clip CLIP learns OpenMoji drawings and captions about them by a contrastive loss with
many positives. Every step is a function of (seed, step): an interrupted run that is started again
goes on from its checkpoint and ends in the same weights.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.pretrain_captions import World, matches
from bench.pretrain_pictures import pictures, rasters, weakened
from data_recipes.openmoji.drawing import PRETRAINING, draw
from data_recipes.openmoji.names import drawings, split_of

log = logging.getLogger("promptgrid.pretrain")

NAME = "openmoji-vit"
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
CONTEXT_LENGTH, VOCABULARY = 77, 49408


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, but for the library versions and the processor."""

    seed: int = 0
    steps: int = 4000
    batch: int = 128
    others: float = 0.15  # share of drawings that are nobody: animals, food, flags
    rate: float = 1e-3
    warmup: int = 200
    decay: float = 0.05
    plain: float = 0.2  # strength of the nuisances at the start, and from `plain_until` on it is 1
    plain_until: float = 0.4
    patch_dropout: float = 0.5
    full_from: float = 0.85  # from this share of the steps on, no patch is dropped
    image_size: int = 64
    embed_dim: int = 128
    vision_width: int = 192
    vision_layers: int = 6
    patch_size: int = 8
    text_width: int = 128
    text_layers: int = 3

    def model_cfg(self, vocabulary: int = VOCABULARY) -> dict[str, Any]:
        """The arguments of `open_clip.model.CLIP`."""
        return {
            "embed_dim": self.embed_dim,
            "vision_cfg": {
                "image_size": self.image_size,
                "patch_size": self.patch_size,
                "width": self.vision_width,
                "layers": self.vision_layers,
                "head_width": 32,
            },
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": vocabulary,
                "width": self.text_width,
                "heads": self.text_width // 32,
                "layers": self.text_layers,
            },
        }


def strength(recipe: Recipe, step: int) -> float:
    """How strong the nuisances are: a small transformer learns shapes on plain pictures first."""
    ramp = step / max(1.0, recipe.plain_until * recipe.steps)
    return min(1.0, recipe.plain + (1.0 - recipe.plain) * ramp)


class Vocabulary:
    """The tokens in use. Training keeps rows for these only: 2,500 of 49,408."""

    def __init__(self, texts: list[str]) -> None:
        self._tokenize = open_clip.get_tokenizer("ViT-B-32")
        # The end-of-text token has the highest id and stays last: open_clip pools at the argmax.
        self.ids: Tensor = self._tokenize(texts).unique()
        self._cache: dict[str, Tensor] = {}

    def rows(self, texts: list[str]) -> Tensor:
        """(C, T) int64 rows of the token embedding, T the longest text with its end token."""
        for text in texts:
            if text not in self._cache:
                tokens = self._tokenize([text])[0]
                if not torch.isin(tokens, self.ids).all():
                    raise ValueError(f"{text!r} has a token that is not in the vocabulary")
                self._cache[text] = torch.searchsorted(self.ids, tokens)
        rows = torch.stack([self._cache[text] for text in texts])
        return rows[:, : int(rows.argmax(dim=1).max()) + 1]


def encode_text(model: CLIP, rows: Tensor) -> Tensor:
    """(C, T) -> (C, D). open_clip's own, for texts cut at the longest one: it is causal."""
    length = rows.shape[1]
    x = model.token_embedding(rows) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    encoded: Tensor = x[torch.arange(len(rows)), rows.argmax(dim=1)] @ model.text_projection
    return encoded


def contrastive_loss(similarity: Tensor, positive: Tensor) -> Tensor:
    """InfoNCE over rows with several positives, each against the row's negatives only.

    similarity: (B, C) scaled cosines; positive: (B, C) bool. A row without a positive is skipped.
    """
    negatives = similarity.masked_fill(positive, -math.inf).logsumexp(dim=1, keepdim=True)
    each = F.softplus(negatives - similarity).masked_fill(~positive, 0.0)
    count = positive.sum(dim=1)
    return (each.sum(dim=1) / count.clamp(min=1))[count > 0].mean()


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.rate * 0.5 * (1.0 + math.cos(math.pi * done))


class Training:
    """Model, optimiser and data of one run; `step` advances it by one batch."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.world = World([d for d in drawings() if split_of(d) == "pretrain"])
        self.rasters = rasters(self.world.drawings, recipe.image_size)
        self.vocabulary = Vocabulary(self.world.texts())
        torch.manual_seed(recipe.seed)
        config = recipe.model_cfg(vocabulary=len(self.vocabulary.ids))
        config["vision_cfg"]["patch_dropout"] = recipe.patch_dropout
        self.model = CLIP(**config)
        named = list(self.model.named_parameters())
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": recipe.decay},
                {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )
        self.done = 0
        # Roles have 3 to 60 drawings; the square root keeps the rare ones in sight.
        roles = [d.role for d in self.world.drawings]
        nobody = np.array([d.kind == "other" for d in self.world.drawings])
        weight = np.array([1.0 / math.sqrt(roles.count(role)) for role in roles])
        for part, share in ((nobody, recipe.others), (~nobody, 1.0 - recipe.others)):
            if part.any():
                weight[part] *= share / weight[part].sum()
        self.weight = weight / weight.sum()

    def step(self) -> float:
        """One update; the loss before it."""
        recipe, world, step = self.recipe, self.world, self.done
        rng = np.random.default_rng((recipe.seed, step))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        torch.manual_seed(int(rng.integers(2**62)))  # patch dropout draws from the global one
        chosen = rng.choice(len(world.drawings), size=recipe.batch, p=self.weight)
        style = weakened(PRETRAINING, strength(recipe, step))
        nuisances = [draw(rng, style) for _ in chosen]
        images = pictures(self.rasters[torch.from_numpy(chosen)], nuisances, generator)
        texts, claims = zip(*(world.caption(int(i), rng) for i in chosen), strict=True)
        positive = torch.from_numpy(matches(world.truth[chosen], np.array(claims)))
        if step >= recipe.full_from * recipe.steps:
            self.model.visual.patch_dropout = torch.nn.Identity()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step)
        self.model.train()
        # PyTorch's fused attention has a slow backward pass on processors; plain products do not.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            seen = self.model.encode_image((images - MEAN[0]) / STD[0])
            said = encode_text(self.model, self.vocabulary.rows(list(texts)))
        seen, said = F.normalize(seen.float(), dim=1), F.normalize(said.float(), dim=1)
        similarity = self.model.logit_scale.exp() * seen @ said.T
        loss = contrastive_loss(similarity, positive) + contrastive_loss(similarity.T, positive.T)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(100.0))
        self.done += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all."""
        state = {
            "recipe": self.recipe,
            "done": self.done,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".tmp")
        torch.save(state, fresh)
        fresh.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same recipe."""
        state = torch.load(path, weights_only=False)
        if state["recipe"] != self.recipe:
            raise SystemExit(f"{path} is of another recipe; delete it or choose --checkpoint")
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = state["done"]

    def export(self, folder: Path) -> None:
        """Write `openmoji-vit.safetensors` (float16, token rows in use only) and its config."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: tensor.half().contiguous()
            for name, tensor in self.model.state_dict().items()
            if name not in ("attn_mask", "token_embedding.weight")
        }
        tensors["token_embedding.rows"] = self.model.token_embedding.weight.detach().half()
        tensors["token_embedding.ids"] = self.vocabulary.ids.clone()
        fresh = folder / f"{NAME}.tmp"
        save_file(tensors, fresh)
        fresh.chmod(0o644)  # save_file leaves it readable to its owner only
        fresh.replace(folder / f"{NAME}.safetensors")
        size = self.recipe.image_size
        preprocess = {"size": size, "mean": MEAN, "std": STD, "interpolation": "bicubic"}
        config = {"model_cfg": self.recipe.model_cfg(), "preprocess_cfg": preprocess}
        (folder / f"{NAME}.json").write_text(json.dumps(config, indent=2) + "\n")


def pretrain(recipe: Recipe, out: Path, checkpoint: Path, every: int = 250) -> Training:
    """Run the recipe to its end from the checkpoint, if there is one, and export the weights."""
    training = Training(recipe)
    if checkpoint.exists():
        training.load(checkpoint)
    began, losses = time.perf_counter(), []
    while training.done < recipe.steps:
        losses.append(training.step())
        if training.done % every == 0 or training.done == recipe.steps:
            seconds = (time.perf_counter() - began) / len(losses)
            recent = np.mean(losses[-every:])
            log.info("step %d loss %.3f (%.2f s a step)", training.done, recent, seconds)
            training.save(checkpoint)
            training.export(out)
    return training


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("methods/weights"))
    parser.add_argument("--checkpoint", type=Path, default=Path("openmoji-vit.checkpoint"))
    parser.add_argument("--threads", type=int, default=2)
    fields = Recipe.__dataclass_fields__
    for name, known in fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(known.default))
    given = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(given["threads"])
    recipe = Recipe(**{name: given[name] for name in fields if given[name] is not None})
    pretrain(recipe, given["out"], given["checkpoint"])


if __name__ == "__main__":
    main()

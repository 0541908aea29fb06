"""The contract of a method: a torch module over a frozen backbone.

The engine hands a method batches and reads back embeddings and a loss; it knows nothing else of
it. Unless a method touches the vision tower, images reach it as cached unit-norm features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from data_recipes.core.model import TaskKind
from methods.core import losses
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig, Training


@dataclass(frozen=True)
class Batch:
    """Queries or candidates of one kind.

    images: (B, D) unit-norm features, or (B, 3, H, W) pixels for methods that touch vision.
    texts: B captions, modification texts or class names. At least one of the two is set.
    """

    images: Tensor | None = None
    texts: Sequence[str] | None = None


@dataclass(frozen=True)
class TrainBatch:
    """One micro-batch of a rank.

    candidates: all classes (classification; the same in every step), or the rows' own targets.
    target: (b,) row of `candidates` (classification), or the id of the row's target, by which
        false negatives are recognised (otherwise).
    weight: (b,) float32, 0 for padding rows.
    row: (b,) int64, the rows' places in the `Lesson`; `rows` has them as numbers.
    image_id: (b,) int64, equal for rows with the same query image; -1 where there is none.
    epoch: number of passes over the lesson before this one.
    unlabelled, unlabelled_id: images of the whole training split, no text, `Method.unlabelled` of
        them drawn for each row and standing together, (b * n), and their ids on the same scale as
        `image_id`; None unless the method wants them.
    """

    queries: Batch
    candidates: Batch
    target: Tensor
    weight: Tensor
    row: Tensor
    image_id: Tensor
    epoch: int = 0
    unlabelled: Batch | None = None
    unlabelled_id: Tensor | None = None
    known_rows: tuple[int, ...] | None = None

    @property
    def rows(self) -> list[int]:
        """`row` as numbers; no GPU is asked where they came with the batch (`known_rows`)."""
        return self.row.tolist() if self.known_rows is None else [*self.known_rows]


@dataclass(frozen=True)
class Lesson:
    """All training pairs (a query with one right candidate), told to a method before the first.

    texts: of each pair: the class name, the caption, or the modification text.
    categories: few-shot group of each pair: its class, garment type or kind of edit.
    described: natural-language descriptions of each pair's class (classification), image
        (image-text: all its captions), or target image (composed); () where there are none.
    reference_described: of each pair's reference image (composed); () otherwise.
    """

    texts: tuple[str, ...]
    categories: tuple[str, ...]
    described: tuple[tuple[str, ...], ...]
    reference_described: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class TaskInfo:
    """What a method may know of its task before it sees data.

    class_names: in label order, for classification; empty otherwise.
    templates: the dataset's hand-written prompts with one {} (classification).
    """

    kind: TaskKind
    class_names: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()


class Encoder(Protocol):
    """A fixed function of an image; its values are computed once for a dataset and kept on disk.

    digest: of all that decides the values. label: for people. dim: numbers of one image. A
    `Backbone` is one.
    """

    @property
    def digest(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def transform(self) -> Callable[[Image.Image], Tensor]: ...
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) of `transform` -> (B, dim) float32."""
        ...


class Method(nn.Module, ABC):
    """Base of all methods.

    name: in studies and tables. paper: where it is from. tasks: kinds it can do.
    trains: False for training-free methods; they run once, not per shots and seed.
    touches_vision: changes the image tower, so it trains on pixels.
    pixels: reads images as pixels (3, H, W) of `transform`, not as cached features.
    stage: recipe of a training that comes before the target's, on the study's `source`, once for
        all shots, seeds and targets; None: there is none. stage_kind: of the source's task.
    inferred: choices that no source states, one phrase each; shown under every table.
    recipe: the method's own training recipe; a study may override fields.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    tasks: ClassVar[frozenset[TaskKind]]
    trains: ClassVar[bool] = True
    touches_vision: ClassVar[bool] = False
    pixels: ClassVar[bool] = False
    stage: ClassVar[Training | None] = None
    stage_kind: ClassVar[TaskKind] = "image_text"
    inferred: ClassVar[tuple[str, ...]] = ()
    recipe: ClassVar[Training] = Training()
    Config: ClassVar[type[MethodConfig]] = MethodConfig

    def __init__(self, config: MethodConfig, backbone: Backbone, task: TaskInfo) -> None:
        super().__init__()
        reason = self.unfit(config, task.kind)
        if reason is not None:
            raise ValueError(f"method {self.name!r} {reason}")
        # A list hides the frozen model from `parameters()`: it is neither trained nor sharded
        # nor saved.
        self._backbone = [backbone]
        self.task = task

    @classmethod
    def unfit(cls, config: MethodConfig, kind: TaskKind) -> str | None:
        """Why the method with these options does not do a kind of task; None where it does."""
        if kind in cls.tasks:
            return None
        return f"does {', '.join(sorted(cls.tasks))}, not {kind}"

    @classmethod
    def unfit_classes(cls, config: MethodConfig) -> str | None:
        """Why the method with these options knows only the classes it learned on; None: any."""
        return None

    @classmethod
    def learns(cls, config: MethodConfig) -> bool:
        """Whether the method with these options trains; without, it is one cell (shots 0)."""
        return cls.trains

    @classmethod
    def describes(cls, config: MethodConfig, kind: TaskKind) -> bool:
        """Whether training needs descriptions (of classes or images) beside the dataset's own."""
        return False

    @classmethod
    def apart(cls, config: MethodConfig, kind: TaskKind) -> str | None:
        """Why cells that differ in the seed do not train in one pass; None where they do."""
        return "has no way to train several seeds in one pass"

    @classmethod
    def texts_together(
        cls, methods: Sequence[Method], texts: Sequence[Sequence[str]]
    ) -> list[Tensor] | None:
        """`text` of each method's own texts in one pass; None: each runs alone.

        The methods are of this class with equal options, backbone and task.
        """
        return None

    @classmethod
    def together(cls, methods: Sequence[Method], batches: Sequence[TrainBatch]) -> Tensor:
        """Losses (S,) of S methods, each on its own batch; a gradient reaches one method alone.

        As it stands here, texts are encoded in one pass and the rest is each method's own. On a CPU
        each thread calls it with its share of the methods: nothing may be written that they share,
        and torch's generator gives its numbers in no order.
        """
        asked = [b.queries.texts or b.candidates.texts or () for b in batches]
        features = cls.texts_together(methods, asked) or []
        known = [{tuple(t): f} for t, f in zip(asked, features, strict=False)] or [{}] * len(asked)
        found = []
        for method, batch, own in zip(methods, batches, known, strict=True):
            with text_given(method, own.get):
                found.append(method.loss(batch))
        return torch.stack(found)

    @classmethod
    def weights_digest(cls, config: MethodConfig) -> str | None:
        """sha256 of weights read beside the backbone's, a part of a cell's identity; None: none.

        Raises ValueError where they cannot be read.
        """
        return None

    @property
    def frozen_images(self) -> Encoder | None:
        """What images reach the method as, instead of pixels or the backbone's features."""
        return None

    @property
    def frozen_gallery(self) -> Encoder | None:
        """Where set, candidate images reach `image` encoded by it: a gallery is encoded once."""
        return None

    @property
    def backbone(self) -> Backbone:
        """The frozen model."""
        return self._backbone[0]

    @property
    def dim(self) -> int:
        """Size D of the embeddings."""
        return self.backbone.dim

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """RGB image -> pixels (3, H, W), for methods that read pixels."""
        return self.backbone.transform

    @property
    def remarks(self) -> tuple[str, ...]:
        """What these options make a reader need to know; shown under every table."""
        return ()

    @property
    def unlabelled(self) -> int:
        """How many images of the whole training split, without labels, each row comes with."""
        return 0

    def begin_training(self, lesson: Lesson) -> None:
        """Called once before the first step; may add modules that only training needs."""
        return

    def end_training(self) -> None:
        """Called once after the last step; removes what `begin_training` added."""
        return

    def learned(self) -> dict[str, Tensor]:
        """What a record keeps and `load_learned` takes: all that training has decided."""
        return self.state_dict()

    def load_learned(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of `learned`. Raises RuntimeError where names or shapes differ."""
        self.load_state_dict(weights)

    def similarity(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Scores (B, N) of embedded queries (B, Dq) and candidates (N, Dc); higher is nearer.

        A method that overrides this is ranked by it, a block of queries at a time, and bounds its
        own memory.
        """
        return queries @ candidates.T

    def image(self, images: Tensor) -> Tensor:
        """Features of images: (B, D) unit-norm; cached features pass through unchanged."""
        return images

    @abstractmethod
    def text(self, texts: Sequence[str]) -> Tensor:
        """Features of texts: (N, D) unit-norm."""

    def compose(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Query features of reference images with modification texts: (B, D) unit-norm."""
        raise NotImplementedError(f"method {self.name!r} does not compose images and texts")

    def query(self, batch: Batch) -> Tensor:
        """Queries -> (B, D) unit-norm."""
        if batch.images is not None and batch.texts is not None:
            return self.compose(batch.images, batch.texts)
        return self.candidate(batch)

    def candidate(self, batch: Batch) -> Tensor:
        """Candidates -> (N, D) unit-norm."""
        if batch.images is not None:
            return self.image(batch.images)
        assert batch.texts is not None, "a batch needs images or texts"
        return self.text(batch.texts)

    def loss(self, batch: TrainBatch) -> Tensor:
        """Scalar training loss of this rank's rows; the mean over ranks is the global loss.

        Classification: cross-entropy over all classes. Otherwise: InfoNCE with the negatives of
        all ranks, from query to candidate, and back as well for image-text retrieval.
        """
        query, candidate = self.query(batch.queries), self.candidate(batch.candidates)
        scale = self.backbone.logit_scale
        if self.task.kind == "classification":
            logits = scale * self.similarity(query, candidate)
            return losses.cross_entropy(logits, batch.target, batch.weight)
        forward = losses.info_nce(query, candidate, batch.target, batch.weight, scale)
        if self.task.kind == "composed":
            return forward
        back = losses.info_nce(candidate, query, batch.target, batch.weight, scale)
        return (forward + back) / 2

    def forward(self, batch: TrainBatch) -> Tensor:
        """The loss: what DeepSpeed's engine calls."""
        return self.loss(batch)


@contextmanager
def text_given(method: Method, known: Callable[[tuple[str, ...]], Tensor | None]) -> Iterator[None]:
    """Within, `method.text` gives the features that `known` has of its texts, if it has any."""
    computed = method.text

    def text(texts: Sequence[str]) -> Tensor:
        given = known(tuple(texts))
        return computed(texts) if given is None else given

    method.__dict__["text"] = text  # found before the class's own
    try:
        yield
    finally:
        del method.__dict__["text"]

"""Learning: a task's few shots become training pairs, and the method is trained on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench.batches import Dealt
from bench.clock import Clock
from bench.embed import Images
from bench.embed import batch as as_batch
from bench.loaded import Data
from bench.train import Engine, train
from bench.views import View, as_they_are, query_view
from data_recipes.core.model import Candidate, DataError, Query, Task
from data_recipes.core.sampler import Draw, coop_few_shot, few_shot_of, short_groups
from methods.core.config import Training
from methods.core.contract import Batch, Lesson, Method, TrainBatch
from methods.core.device import moved

Pair = tuple[Query, Candidate]
Deal = Callable[[Dealt], TrainBatch]
UNLABELLED = 1  # stream of random numbers that draws the images without labels


def learn(
    method: Method,
    training: Training,
    data: Data,
    shots: int | None,
    seed: int,
    engine: Engine,
    draw: Draw = "nested",
    clock: Clock | None = None,
    draw_seed: int | None = None,
) -> tuple[list[float], list[str]]:
    """Train `method` in place on `shots` of each group; returns the loss curve and notes.

    The arguments are those of `prepare`. clock: see `train`.
    """
    course = prepare(method, training, data, shots, seed, engine, draw, draw_seed)
    curve = train(method, training, course.shots, course.rows, course.batch, seed, engine, clock)
    method.end_training()
    return curve, course.notes


@dataclass(frozen=True)
class Course:
    """What a training goes through: `rows` pairs, cut into batches by `batch`; 0 shots: all."""

    shots: int
    rows: int
    batch: Deal
    notes: list[str]


def prepare(
    method: Method,
    training: Training,
    data: Data,
    shots: int | None,
    seed: int,
    engine: Engine,
    draw: Draw = "nested",
    draw_seed: int | None = None,
) -> Course:
    """Draw the shots and tell `method` of them.

    shots: None for all training queries (a source dataset). draw: the sampler of the shots.
    draw_seed: what it is seeded with; None: `seed`, as all else in the training.

    Raises:
        DataError: the task has no training split, or training needs an image that is missing.
    """
    queries = data.task.training().queries
    drawn_by = seed if draw_seed is None else draw_seed
    notes = []
    if shots is None:
        drawn = [*queries]
    else:
        if draw == "coop":
            drawn, _ = coop_few_shot(queries, shots, drawn_by)
            notes.append("the shots are those that CoOp's code draws: not nested")
        else:
            drawn = few_shot_of(data.order(drawn_by), queries, shots)
        short = short_groups(queries, shots)
        if short:
            notes.append(f"{len(short)} group(s) have fewer than {shots} shots: all are used")
    pairs = training_pairs(data.task, drawn)
    _refuse_missing(data, pairs, method)
    method.begin_training(lesson(data.task, pairs, data.descriptions))
    method.to(engine.device)
    view, said = query_view(method, training, data, [query for query, _ in pairs], seed)
    notes += said
    images = data.images(method)
    deal_batch = training_batches(method, data.task, pairs, images, seed, engine, view)
    return Course(shots or 0, len(pairs), deal_batch, notes)


def training_pairs(task: Task, drawn: Sequence[Query]) -> list[Pair]:
    """Each drawn query with each of its relevant candidates."""
    part = task.training()
    return [(q, part.candidates[part.position[c]]) for q in drawn for c in q.relevant]


def _refuse_missing(data: Data, pairs: Sequence[Pair], method: Method) -> None:
    """A score counts a missing image as a miss; training has no such way."""
    needed = [image for q, c in pairs for image in (q.image, c.image) if image is not None]
    if method.unlabelled:
        needed += data.task.training().image_ids()
    lost = list(dict.fromkeys(image for image in needed if image in data.missing))
    if lost:
        raise DataError(
            f"{data.folder}: image {lost[0]!r} is missing from the shards and training needs it "
            f"({len(lost)} such images); build the dataset again with its images"
        )


def lesson(task: Task, pairs: Sequence[Pair], descriptions: Mapping[str, Sequence[str]]) -> Lesson:
    """What a method is told of its training pairs before the first step.

    descriptions: class name or image id -> texts, where the dataset or the study has them.
    """
    part = task.training()

    def of(name: str | None) -> tuple[str, ...]:
        return tuple(descriptions.get(name or "", ()))

    def described(query: Query, candidate: Candidate) -> tuple[str, ...]:
        if task.kind == "classification":
            return of(candidate.text)
        if task.kind == "composed":
            return of(candidate.image)
        if query.text is not None:
            return (query.text,)
        texts = (part.candidates[part.position[c]].text for c in query.relevant)
        return tuple(text for text in texts if text is not None)

    composed = task.kind == "composed"
    return Lesson(
        texts=tuple(q.text or c.text or "" for q, c in pairs),
        categories=tuple(q.group for q, _ in pairs),
        described=tuple(described(q, c) for q, c in pairs),
        reference_described=tuple(of(q.image) if composed else () for q, _ in pairs),
    )


def training_batches(
    method: Method,
    task: Task,
    pairs: Sequence[Pair],
    images: Images,
    seed: int,
    engine: Engine,
    view: View | None = None,
) -> Deal:
    """The function from dealt rows to a TrainBatch.

    images: image ids -> what the method takes for them (features or pixels).
    view: the same for the queries of some rows, where these are augmented (`bench.views`).
    """
    part = task.training()
    view = view or as_they_are(images)
    if task.kind == "classification":
        targets = [part.position[c.id] for _, c in pairs]
        classes = as_batch(part.candidates, images)
    else:
        same: dict[str, int] = {}
        targets = [same.setdefault(_content(c), len(same)) for _, c in pairs]
    names = part.image_ids()
    number = {image: n for n, image in enumerate(names)}
    device = engine.device
    target = torch.tensor(targets, device=device)
    image_id = torch.tensor([number[q.image] if q.image else -1 for q, _ in pairs], device=device)

    def deal_batch(dealt: Dealt) -> TrainBatch:
        row = moved(torch.from_numpy(dealt.rows), device)
        own = [pairs[row] for row in dealt.rows]
        extra = [
            number
            for row in dealt.rows
            for number in _draw(seed, dealt.epoch, row, method.unlabelled, len(names))
        ]
        return TrainBatch(
            queries=as_batch([q for q, _ in own], view(dealt)),
            candidates=classes
            if task.kind == "classification"
            else as_batch([c for _, c in own], images),
            target=target[row],
            weight=moved(torch.from_numpy(dealt.weight), device),
            row=row,
            image_id=image_id[row],
            epoch=dealt.epoch,
            unlabelled=Batch(images=images([names[n] for n in extra])) if extra else None,
            unlabelled_id=moved(torch.tensor(extra), device) if extra else None,
            known_rows=tuple(dealt.rows.tolist()),
        )

    return deal_batch


def _draw(seed: int, epoch: int, row: int, wanted: int, count: int) -> list[int]:
    """The images without labels of a row in an epoch: equal on any number of ranks."""
    if wanted == 0:
        return []
    draw = np.random.default_rng([seed, UNLABELLED, epoch, row])
    return [int(number) for number in draw.integers(count, size=wanted)]


def _content(candidate: Candidate) -> str:
    """Equal for candidates that no method can tell apart: same image, or same caption."""
    return f"image {candidate.image}" if candidate.image else f"text {candidate.text}"

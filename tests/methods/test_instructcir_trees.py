"""The layout of instructcir-lite's prompts: what stands once, and what every place sees."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.instructcir.trees import Row, Trees, planted

IMAGE = 9  # the image token; words are 1 to 8
CPU = torch.device("cpu")


def row(words: list[int], image_tokens: int = 0) -> Row:
    """A start token, image tokens with positions from 50 on, and words counted on without them."""
    ids = [0, *[IMAGE] * image_tokens, *words]
    places = [0, *range(50, 50 + image_tokens), *range(1, 1 + len(words))]
    return Row.of(ids, places, IMAGE)


def read(trees: Trees, number: int) -> list[tuple[int, int]]:
    """Id and position of what the last place of a prompt sees, in order; images below 0."""
    blocks = trees.blocks
    end = int(trees.used[trees.ends][blocks.given[number]])
    block, place = divmod(end, blocks.places)
    sees = (blocks.mask[block, place] == 0).nonzero().flatten() + block * blocks.places
    told, found = len(trees.ids), []
    for at in trees.at[sees].tolist():
        if at < told:
            found.append((int(trees.ids[at]), int(trees.positions[at])))
        else:
            found.append((-1 - (at - told), int(trees.image_positions[at - told])))
    return found


prompts = st.lists(
    st.tuples(st.lists(st.integers(1, 8), min_size=1, max_size=20), st.integers(0, 3)),
    min_size=1,
    max_size=12,
)


@given(prompts)
@settings(max_examples=60, deadline=None)
def test_the_last_word_of_each_prompt_sees_its_prompt_and_no_other(
    told: list[tuple[list[int], int]],
) -> None:
    trees = planted([row(*one) for one in told], IMAGE, CPU)
    images = 0
    for number, (words, count) in enumerate(told):
        own = [(-1 - images - n, 50 + n) for n in range(count)]
        expected = [(0, 0), *own, *((word, 1 + n) for n, word in enumerate(words))]
        assert read(trees, number) == expected
        images += count
    assert len(trees.image_positions) == images


def test_equal_first_words_stand_once_unless_an_image_is_before_them() -> None:
    alone = planted([row([1, 2, 3]), row([1, 2, 4]), row([1, 2, 3])], IMAGE, CPU)
    assert len(alone.used) == 5  # start, 1, 2, 3, 4
    seen = planted([row([1, 2, 3], 1), row([1, 2, 3], 1)], IMAGE, CPU)
    assert len(seen.used) == 9  # the start alone is common
    assert len(seen.ids) <= 5  # but the first layer projects each word once

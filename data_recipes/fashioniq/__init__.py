"""FashionIQ: the official files as retrieval tasks, and the recipe over them."""

from data_recipes.fashioniq.reader import (
    CATEGORIES,
    JOINS,
    Captions,
    Join,
    join,
    original_task,
    read_captions,
    read_split,
    val_task,
)
from data_recipes.fashioniq.recipe import FashionIQ, FashionIQConfig

__all__ = [
    "CATEGORIES",
    "JOINS",
    "Captions",
    "FashionIQ",
    "FashionIQConfig",
    "Join",
    "join",
    "original_task",
    "read_captions",
    "read_split",
    "val_task",
]

"""GeneCIS: the official files as retrieval tasks, the crops of boxes, and the recipe over them."""

from data_recipes.genecis.crops import DILATION, Box, BoxesOfImage, Crop, crop_box
from data_recipes.genecis.reader import image_id, read_task, task_name
from data_recipes.genecis.recipe import GeneCIS, GeneCISConfig

__all__ = [
    "DILATION",
    "Box",
    "BoxesOfImage",
    "Crop",
    "GeneCIS",
    "GeneCISConfig",
    "crop_box",
    "image_id",
    "read_task",
    "task_name",
]

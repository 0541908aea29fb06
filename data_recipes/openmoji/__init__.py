"""The embedded datasets: OpenMoji drawings, in looks that pre-training held out."""

from data_recipes.openmoji.base import OpenMojiConfig
from data_recipes.openmoji.base_new import OpenMojiBaseNew
from data_recipes.openmoji.composed import OpenMojiComposed
from data_recipes.openmoji.conditional import OpenMojiConditional
from data_recipes.openmoji.multi import OpenMojiMulti
from data_recipes.openmoji.renderings import (
    OpenMojiRolesGrey,
    OpenMojiRolesLines,
    OpenMojiRolesPlain,
    OpenMojiRolesShifted,
)
from data_recipes.openmoji.roles import OpenMojiRoles
from data_recipes.openmoji.source import OpenMojiSource

__all__ = [
    "OpenMojiBaseNew",
    "OpenMojiComposed",
    "OpenMojiConditional",
    "OpenMojiConfig",
    "OpenMojiMulti",
    "OpenMojiRoles",
    "OpenMojiRolesGrey",
    "OpenMojiRolesLines",
    "OpenMojiRolesPlain",
    "OpenMojiRolesShifted",
    "OpenMojiSource",
]

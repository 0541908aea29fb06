"""The embedded datasets: OpenMoji drawings, in looks that pre-training held out."""

from data_recipes.openmoji.base import OpenMojiConfig
from data_recipes.openmoji.composed import OpenMojiComposed
from data_recipes.openmoji.roles import OpenMojiRoles

__all__ = ["OpenMojiComposed", "OpenMojiConfig", "OpenMojiRoles"]

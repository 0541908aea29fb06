"""AAPE: aggregate natural-language prompts, and learn to make their aggregate from the image."""

from methods.aape.method import AAPE, AAPEConfig

__all__ = ["AAPE", "AAPEConfig"]

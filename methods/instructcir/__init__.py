"""InstructCIR: its released weights, and its recipe on a small model (lite)."""

from methods.instructcir.lite import InstructCIRLite
from methods.instructcir.released import InstructCIR

__all__ = ["InstructCIR", "InstructCIRLite"]

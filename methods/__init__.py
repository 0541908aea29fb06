"""Frozen backbones, the method contract, and one file per method.

Every module beside `core/` is one method; dropping a file in is its registration.
"""

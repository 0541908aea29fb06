"""Gangs, the queue, the local session: runs a callable, and knows no method."""

"""The roof: study spec, cell, training loop, ranking and metrics, command line."""

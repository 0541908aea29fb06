"""promptgrid for notebooks and scripts: load the records of a run and ask them.

import promptgrid

run = promptgrid.load("runs/demo")
run.leaderboard()
"""

from results.notebook import Results, load

__all__ = ["Results", "load"]

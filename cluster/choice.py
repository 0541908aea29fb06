"""Which unit a gang runs next: a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from cluster.work import Work

Warm = tuple[str, ...]


def choose(
    pending: Sequence[Work], done: AbstractSet[str], warm: Warm, elsewhere: AbstractSet[Warm]
) -> Work | None:
    """The unit that is just what the gang has warm; else what no other gang has warm; else any.

    Of several kinds it is the one nearest to what the gang has warm (the backbone, if not the
    dataset), then the one furthest from what others have; of a kind, the first in `pending`. What
    others wait for comes before all that.

    With T kinds of warm units, G gangs and no needs, gangs load what they have not warm at most
    T + G (G - 1) / 2 times: each kind once, and then as helpers of those at work on the last kinds.

    pending: longest first. done: keys of finished units; what needs others is not chosen.
    warm: of this gang. elsewhere: of the others, empty ones left out.
    """
    ready = [unit for unit in pending if done >= set(unit.needs)]
    needed = {key for unit in pending for key in unit.needs}
    ready = [unit for unit in ready if unit.key in needed] or ready

    def fit(kind: Warm) -> tuple[bool, bool, int, int]:
        taken = max((in_common(kind, other) for other in elsewhere), default=0)
        return bool(kind) and kind == warm, kind not in elsewhere, in_common(kind, warm), -taken

    fits = {kind: fit(kind) for kind in {unit.warm for unit in ready}}
    return max(ready, key=lambda unit: fits[unit.warm], default=None)


def in_common(first: Warm, second: Warm) -> int:
    """How many leading entries are equal."""
    differ = (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(differ, min(len(first), len(second)))

"""The nearest known name to a misspelt one."""

from collections.abc import Iterable


def edit_distance(left: str, right: str) -> int:
    """Insertions, deletions, replacements and swaps of neighbours that turn one string into the other."""
    before: list[int] = []
    previous = list(range(len(right) + 1))
    for row, a in enumerate(left, 1):
        current = [row]
        for column, b in enumerate(right, 1):
            cost = min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (a != b))
            if row > 1 and column > 1 and a == right[column - 2] and left[row - 2] == b:
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        before, previous = previous, current
    return previous[-1]


def closest(name: str, known: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Known names that ``name`` was probably meant to be, best first; names already ``taken`` come last among equals.

    A third of the letters may differ; failing that, a name that contains it or that it contains will do.
    """
    taken = set(taken)
    plain = _plain(name)
    ranked = sorted((edit_distance(plain, other.lower()), other in taken, other) for other in known)
    near = [other for distance, _, other in ranked if distance <= max(1, len(name) // 3)]
    return near or [other for _, _, other in ranked if len(plain) > 2 and (plain in other or other in plain)]


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name with the fewest letters to change, however many those are."""
    return min(known, key=lambda other: (edit_distance(_plain(name), other.lower()), other))


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def did_you_mean(candidates: list[str]) -> str:
    """``; did you mean 'x'?``, or nothing."""
    return f"; did you mean {candidates[0]!r}?" if candidates else ""

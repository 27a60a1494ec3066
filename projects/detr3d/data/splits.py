"""nuScenes' splits by scene name: of the whole data set and of its mini version."""

from collections.abc import Iterable

# The 150 validation scenes, two of which are those of the mini version.
_VALIDATION = (
    "3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638"
    " 770-771 775 777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073"
)
_MINI_VALIDATION = "103 916"


def _names(numbers: str) -> frozenset[str]:
    """Expand "3 12-14" to "scene-0003", "scene-0012", ..."""
    found: set[str] = set()
    for word in numbers.split():
        first, _, last = word.partition("-")
        found |= {f"scene-{n:04d}" for n in range(int(first), int(last or first) + 1)}
    return frozenset(found)


VALIDATION, MINI_VALIDATION = _names(_VALIDATION), _names(_MINI_VALIDATION)


def split_scenes(version: str, scenes: Iterable[str]) -> dict[str, list[str]]:
    """Group the scenes of a version by split.

    Args:
        version: name of the folder of tables, such as "v1.0-mini".
        scenes: names.
    Returns:
        Scenes by "train", "val" or "test", without empty splits.
    """
    names = list(scenes)
    if version.endswith("test"):
        return {"test": names}
    validation = MINI_VALIDATION if version.endswith("mini") else VALIDATION
    found = {
        "train": [name for name in names if name not in validation],
        "val": [name for name in names if name in validation],
    }
    return {split: members for split, members in found.items() if members}

"""Patterns of paths with *, **, ? and [...], for local folders and object stores alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from sr_edge.cluster.storage.locations import Location
from sr_edge.errors import UsageError

_SPECIAL = re.compile(r"[*?\[]")
_ANY_FOLDERS = "**"


@dataclass(frozen=True)
class Pattern:
    """A pattern below a folder.

    Attributes:
        base: The folder before the first component with a special character.
        components: The components after it.
    """

    base: Location
    components: tuple[str, ...]

    @classmethod
    def parse(cls, location: Location) -> Pattern | None:
        """Splits a location; None if it has no special character, or one in the name of a bucket.

        Raises:
            UsageError: ** stands beside other characters.
        """
        fixed = location.root
        components = location.address[len(fixed) :].strip("/").split("/")
        first = next((at for at, component in enumerate(components) if _SPECIAL.search(component)), None)
        if first is None or _SPECIAL.search(fixed):
            return None
        for component in components[first:]:
            if _ANY_FOLDERS in component and component != _ANY_FOLDERS:
                raise UsageError(
                    f"{component} in the pattern {location} contains ** beside other characters",
                    found=component,
                    wanted="** between two slashes",
                    remedy="write **/*.png, for example",
                )
        return cls(Location(fixed).join(*components[:first]) if first else Location(fixed), tuple(components[first:]))

    @property
    def max_depth(self) -> int | None:
        """How many components a path can have that matches; None if ** matches any number."""
        return None if _ANY_FOLDERS in self.components else len(self.components)

    def matches(self, path: str) -> bool:
        """Whether a path below `base` matches."""
        return _expression(self.components).match(path) is not None

    def may_contain(self, path: str) -> bool:
        """Whether the path of a folder is not deeper than paths that match."""
        return self.max_depth is None or path.count("/") < self.max_depth


@cache
def _expression(components: tuple[str, ...]) -> re.Pattern[str]:
    from fsspec.utils import glob_translate

    return re.compile(glob_translate("/".join(components)))

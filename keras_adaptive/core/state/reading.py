"""Reads data that may be damaged: every value of a manifest or a config is checked before it is used."""

from dataclasses import dataclass
from typing import Any, NoReturn

LONGEST_SHOWN = 80


@dataclass(frozen=True)
class Part:
    """A value that was loaded, and its place.

    Each method returns the value if it is of that kind; otherwise it raises a ValueError that names the place.

    Args:
        what: the name of what is read, for errors: "The manifest of the optimizer's state".
        value: the value.
        place: the place of the value, such as "variables/0/path"; empty for the top level.
    """

    what: str
    value: Any
    place: str = ""

    def refuse(self, accepted: str) -> NoReturn:
        shown = repr(self.value)
        shown = shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."
        raise ValueError(f"{self.what} cannot be read: `{self.place or '/'}` must be {accepted}. Received: {shown}")

    def at(self, key: Any) -> "Part":
        return Part(self.what, self.value[key], f"{self.place}/{key}" if self.place else str(key))

    def mapping(self, *required: str) -> dict[str, "Part"]:
        if not isinstance(self.value, dict) or not all(isinstance(key, str) for key in self.value):
            self.refuse(f"a mapping with {list(required)}" if required else "a mapping")
        missing = [key for key in required if key not in self.value]
        if missing:
            self.refuse(f"a mapping with {list(required)}; {missing} are missing")
        return {key: self.at(key) for key in self.value}

    def parts(self) -> list["Part"]:
        if not isinstance(self.value, list | tuple):
            self.refuse("a list")
        return [self.at(index) for index in range(len(self.value))]

    def text(self) -> str:
        if not isinstance(self.value, str):
            self.refuse("a string")
        return self.value

    def texts(self) -> list[str]:
        return [part.text() for part in self.parts()]

    def whole(self, least: int = 0, most: int = 2**63 - 1) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not least <= self.value <= most:
            self.refuse(f"a whole number from {least} to {most}")
        return self.value

    def shape(self) -> tuple[int, ...]:
        return tuple(part.whole() for part in self.parts())

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            self.refuse("true or false")
        return self.value

"""Regular expressions from a file: those whose search may never end are refused by their form.

Python's `re` has no time limit. It tries all ways to split a text among repeated parts, so (a+)+$ takes twice as long
for each further letter.
"""

import re

# Each repeated part multiplies the steps of a search by the length of the path.
MOST_REPEATS = 3
QUANTIFIER = re.compile(r"(?:[*+?]|\{\d*(?:,\d*)?\})[?+]?")
OPENING = re.compile(r"\((\?(P=|\()|\?(P<\w+>|<?[=!]|[a-zA-Z-]*:?|>))?")
CHARACTERS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)


def from_file(name: str, pattern: str) -> str:
    """The pattern of a config. Patterns that users write in code are not limited.

    Raises:
        ValueError: if a repeated part may match texts of several lengths, if more than MOST_REPEATS parts repeat
            without a limit, or if the pattern refers to the text of an earlier part.
    """
    reason = _reason(pattern)
    if reason:
        shown = pattern if len(pattern) <= 80 else f"{pattern[:77]}..."
        raise ValueError(
            f"`{name}` of a saved optimizer must not {reason}: a search could run for ever. If the pattern is yours, "
            "load with compile=False and compile with an optimizer that is made in code, then load its state. "
            f"Received: {name}={shown!r}"
        )
    return pattern


def _found(part: re.Pattern, pattern: str, place: int) -> re.Match:
    """The match at this place of a pattern that `re` has accepted."""
    found = part.match(pattern, place)
    assert found is not None
    return found


def _reason(pattern):
    """What makes it unsafe, or None. It is already known to be a regular expression."""
    varies = [False]
    unit_varies, repeats, place = False, 0, 0
    while place < len(pattern):
        character, quantifier = pattern[place], QUANTIFIER.match(pattern, place)
        if character == "\\":
            if pattern[place + 1].isdigit():
                return "refer to an earlier part"
            unit_varies, place = False, place + 2
        elif character == "[":
            unit_varies, place = False, _found(CHARACTERS, pattern, place).end()
        elif character == "(":
            opening = _found(OPENING, pattern, place)
            if opening[2]:
                return "refer to an earlier part"
            varies.append(False)
            place = opening.end()
        elif character == ")":
            unit_varies = varies.pop()
            varies[-1] |= unit_varies
            place += 1
        elif character == "|":
            varies[-1] = True
            place += 1
        elif quantifier:
            text = quantifier[0]
            once = text[0] == "?" or re.match(r"\{,?[01]\}", text)
            if unit_varies and not once:
                return "repeat a part that itself repeats or has alternatives"
            repeats += text[0] in "*+" or ("," in text)
            varies[-1] = True
            unit_varies, place = True, quantifier.end()
        else:
            unit_varies, place = False, place + 1
        if repeats > MOST_REPEATS:
            return f"have more than {MOST_REPEATS} parts that repeat"
    return None

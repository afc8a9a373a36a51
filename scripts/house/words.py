"""The words that had a private meaning in this project, the standard terms to use instead, and how to recognise them.

Identifiers are matched in the form `_found_file_` (lower case, an underscore around every word), prose as it stands.
Where a word has an ordinary meaning too, the expression takes only the private one, or only the files that have it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

CALIBRATION = r"calibration|cli/calibrate|deploy|docs/calibrate"
COMPARE = r"bench|compare"
VIDEO_FILE = r"video_file|camera/file|docs/video"
STREAM = r"camera|gstreamer|preview|stream"


@dataclass(frozen=True)
class PrivateWord:
    """A word to avoid.

    Args:
        word: As it is listed.
        instead: The terms to use.
        names: Expression for identifiers; empty where identifiers are not searched.
        prose: Expression for sentences; empty where the word is ordinary English there.
        files: Expression for the paths to search.
    """

    word: str
    instead: str
    names: str = ""
    prose: str = ""
    files: str = ""

    @cache  # noqa: B019  # the words live as long as the program
    def in_name(self, snake_case: str) -> bool:
        return bool(self.names and re.search(self.names, snake_case))

    def in_prose(self, text: str) -> list[int]:
        """Where it begins, as offsets."""
        matches = re.finditer(self.prose, text, re.IGNORECASE) if self.prose else ()
        return [match.start() for match in matches]

    def concerns(self, path: str) -> bool:
        return bool(re.search(self.files, path))


PRIVATE_WORDS = (
    PrivateWord("found", "what it is: activation_range, shape, availability", r"_found_"),
    PrivateWord("side", "candidate, reference", r"(?<!by)_sides?_(?!px_|by_)", r"(?<!by )\bsides?\b(?! by\b)", COMPARE),
    PrivateWord(
        "rest",
        "float_precision",
        r"_rests?_",
        r"--rest\b|`rest`|\brest=|\brest's\b|\bfor the rest\b|\bthe rest (?:in|ran|runs|is|are|as|of (?:an )?INT8)\b",
    ),
    PrivateWord("facts", "properties, probe, metadata", r"_facts?_", r"\bfacts\b"),
    PrivateWord(
        "Order",
        "CalibrationConfig",
        r"^_(?:compile_)?orders?_$",
        "",
        f"^(?!.*(?:gate|target)).*(?:{CALIBRATION}|compile)",
    ),
    PrivateWord("Account", "CalibrationReport", r"_accounts?_", r"(?<!into )(?<!on )\baccounts?\b(?! for| of)"),
    PrivateWord(
        "Spelling",
        "ActivationType",
        r"_spell(?:ed|ing|ings)?_",
        r"(?<!check its )(?<!check the )\bspell(?:ed|ing|ings|s)?\b",
    ),
    PrivateWord("Site", "QuantizableOp", r"_sites?_", r"\bsites?\b(?!-)(?<!-)", CALIBRATION),
    PrivateWord("switched", "fake-quant graph", r"_switch(?:ed|er|es)?_", r"\bswitch(?:ed|es)\b", CALIBRATION),
    PrivateWord("watched", "probe, instrumented graph", r"_watched_|_watching_", r"\bwatched\b"),
    PrivateWord(
        "white",
        "input_range",
        r"^_whites?_$|_white_level_",
        r"\bcalls? white\b|\b(?:share )?of white\b",
        r"^(?!.*(?:metrics|frame_io|export/patches|conversion|golden))",
    ),
    PrivateWord("columns", "im2col", r"_columns?_", r"\bcolumns\b", r"sr_edge/calibration"),
    PrivateWord("enlarger", "frame upscaler", r"_enlargers?_", r"\benlargers?\b"),
    PrivateWord("coordinates", "COMQ", r"_coordinates_", r"\bcoordinates\b", CALIBRATION),
    PrivateWord("passengers", "passthrough streams", r"_passengers?_", r"\bpassengers?\b"),
    PrivateWord(
        "meaning", "statistics detection", r"_meanings?_", r"\bby meaning\b|\bof no meaning\b|\bmeans? nothing to\b"
    ),
    PrivateWord("Turns", "fair lock", r"(?<!write)_turns?_", "", STREAM),
    PrivateWord("Billing", "stream info", r"_billings?_", r"\bbilling\b"),
    PrivateWord("Passage", "frame record", r"_passages?_", r"\bpassages?\b"),
    PrivateWord("Show", "preview stream", r"^_shown?_$", r"\b(?:a|the) show\b", r"preview"),
    PrivateWord("seats", "viewers", r"_seats?_", r"\bseats?\b"),
    PrivateWord("Parts", "segments", r"_parts?_", r"\bparts?\b", VIDEO_FILE),
    PrivateWord("join", "mux", r"_join(?:ed|ing|s)?_", r"\bjoin(?:ed|ing|s)?\b", VIDEO_FILE),
    PrivateWord("patience", "timeout", r"_patien(?:ce|t)_", r"\bpatience\b"),
    PrivateWord("say", "on_event", r"_(?:say|says|said)_", r"\b(?:is|are|was) said\b"),
    PrivateWord("told", "the technical verb", r"_told_", r"\b(?:is|are|was) told\b"),
    PrivateWord("wish", "request", r"_wish(?:es)?_", r"\bwish(?:es)?\b"),
    PrivateWord("lesson", "samples of a layer", r"_lessons?_", r"\blessons?\b"),
    PrivateWord("tally", "statistics", r"_tally_", r"\btally\b"),
    PrivateWord("holds", "contains, is true", r"_holds_", r"\bholds\b(?! (?:for|everywhere|in|on|true)\b)"),
    PrivateWord("carries", "contains, includes", "", r"\bcarr(?:y|ies)\b"),
    PrivateWord("goes through", "is upscaled by, is passed to", "", r"\b(?:go|goes|going|went) through\b"),
    PrivateWord("is there", "exists, is installed, is available", "", r"\b(?:is|are) there\b"),
)

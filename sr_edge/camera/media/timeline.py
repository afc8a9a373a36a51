"""A strictly increasing time line from the timestamps of a source, which may be missing, restart or repeat."""

from __future__ import annotations

from fractions import Fraction


class Timeline:
    """Leaves timestamps as they are while they increase. Otherwise all following ones are shifted by `offset_s`.

    A live source begins at 0, whatever its own clock shows. After a gap it continues by the clock of this process, so
    that an interruption takes as long in the recording as it did. A file continues after the last frame interval.

    Frames without timestamps are placed by the clock if the source is live, and one interval after the other if it is a
    file, or if its rate is constant.
    """

    def __init__(self, is_live: bool, rate: Fraction | None = None, *, is_constant: bool = False) -> None:
        """Creates an empty time line.

        Args:
            is_live: whether the source is live.
            rate: nominal frames per second, used until two frames have shown the interval.
            is_constant: whether frames without timestamps follow each other at exactly this rate.
        """
        self._is_constant = is_constant
        self._is_interrupted = False
        self.offset_s = Fraction(0)
        self._is_live = is_live
        self._is_aligned = not is_live
        self._last_s: Fraction | None = None
        self._last_ns = 0
        self._step_s = 1 / rate if rate else Fraction(1, 30)

    def restart(self) -> None:
        """Declares that the source was opened again, and that its timestamps have a new origin."""
        self._is_aligned = False
        self._is_interrupted = True

    @property
    def has_begun(self) -> bool:
        """Whether a frame was placed. Before that the offset of audio and subtitles is unknown."""
        return self._last_s is not None

    def place(self, pts: int | None, time_base: Fraction, captured_ns: int) -> int:
        """Returns the pts of a frame on the time line.

        Args:
            pts: the frame's own timestamp in units of `time_base`; None if it has none.
            time_base: seconds for each unit.
            captured_ns: when the frame was captured, by `time.monotonic_ns`.

        Returns:
            The timestamp in units of `time_base`, greater than that of the frame before.
        """
        if pts is None:
            self._is_aligned = False
            return self._advance(self._untimed_s(captured_ns), time_base, captured_ns)
        expected_s = self._expected_s(captured_ns)
        own_s = pts * time_base
        if not self._is_aligned or (self._last_s is not None and own_s + self.offset_s <= self._last_s):
            self.offset_s = _rounded(expected_s, time_base) * time_base - own_s
            self._is_aligned = True
        return self._advance(own_s + self.offset_s, time_base, captured_ns)

    def _expected_s(self, captured_ns: int) -> Fraction:
        if self._last_s is None:
            return Fraction(0)
        if not self._is_live:
            return self._last_s + self._step_s
        return self._last_s + max(Fraction(captured_ns - self._last_ns, 10**9), self._step_s)

    def _untimed_s(self, captured_ns: int) -> Fraction:
        """The time of a frame without a timestamp."""
        if self._last_s is None or not self._is_live or self._is_interrupted:
            return self._expected_s(captured_ns)
        elapsed_s = self._step_s if self._is_constant else Fraction(max(0, captured_ns - self._last_ns), 10**9)
        return self._last_s + elapsed_s

    def _advance(self, time_s: Fraction, time_base: Fraction, captured_ns: int) -> int:
        placed = _rounded(time_s, time_base)
        if self._last_s is not None:
            placed = max(placed, int(self._last_s / time_base) + 1)
            self._step_s = self._step_s if self._is_constant else placed * time_base - self._last_s
        self._last_s, self._last_ns = placed * time_base, captured_ns
        self._is_interrupted = False
        return placed


def _rounded(time_s: Fraction, time_base: Fraction) -> int:
    return round(time_s / time_base)

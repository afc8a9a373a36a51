"""One rising time line out of the times that a source gives, which may be absent, restart or stand still."""

from __future__ import annotations

from fractions import Fraction


class Timeline:
    """Keeps times as they are while they rise. Where they do not, what follows is moved as a whole, by `offset_s`.

    A live source begins at 0, whatever its own clock says, and goes on by our clock after a gap, so that an outage is
    as long in the recording as it was; a file goes on after a frame as long as the one before.
    """

    def __init__(self, is_live: bool, rate: Fraction | None = None) -> None:
        """Args:
        rate: frames a second as announced, for the time until two frames have told it.
        """
        self.offset_s = Fraction(0)
        self._is_live = is_live
        self._is_known = not is_live
        self._last_s: Fraction | None = None
        self._last_ns = 0
        self._step_s = 1 / rate if rate else Fraction(1, 30)

    def restart(self) -> None:
        """The source was opened again: its times have nothing to do with those before."""
        self._is_known = False

    @property
    def has_begun(self) -> bool:
        """Whether a frame was placed: before that, nobody knows where other streams belong."""
        return self._last_s is not None

    def place(self, pts: int | None, time_base: Fraction, captured_ns: int) -> int:
        """The frame's time in units of `time_base`: its own where it can be, always after the last one's."""
        expected_s = self._expected_s(captured_ns)
        if pts is None:
            self._is_known = False
            return self._settle(expected_s, time_base, captured_ns)
        own_s = pts * time_base
        if not self._is_known or (self._last_s is not None and own_s + self.offset_s <= self._last_s):
            self.offset_s = _rounded(expected_s, time_base) * time_base - own_s
            self._is_known = True
        return self._settle(own_s + self.offset_s, time_base, captured_ns)

    def _expected_s(self, captured_ns: int) -> Fraction:
        if self._last_s is None:
            return Fraction(0)
        if not self._is_live:
            return self._last_s + self._step_s
        return self._last_s + max(Fraction(captured_ns - self._last_ns, 10**9), self._step_s)

    def _settle(self, time_s: Fraction, time_base: Fraction, captured_ns: int) -> int:
        placed = _rounded(time_s, time_base)
        if self._last_s is not None:
            placed = max(placed, int(self._last_s / time_base) + 1)
            self._step_s = placed * time_base - self._last_s
        self._last_s, self._last_ns = placed * time_base, captured_ns
        return placed


def _rounded(time_s: Fraction, time_base: Fraction) -> int:
    return round(time_s / time_base)

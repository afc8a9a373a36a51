"""Which settings FFmpeg's readers know: opened with others it passes over them without a word.

PyAV lists no settings of formats and protocols, so FFmpeg itself is asked, through the library that PyAV has loaded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from difflib import get_close_matches

from av.container import core

from sr_edge.errors import UsageError

_IN_CHILDREN, _OBJECT_IS_A_CLASS = 1, 2
_OF_READERS = 2
_EXAMPLES = ["framerate", "video_size", "timeout"]


def require_known_options(names: Iterable[str]) -> None:
    """Raises UsageError for a name that no format, protocol or device of FFmpeg's has as a setting for reading."""
    ffmpeg = _ffmpeg()
    unknown = [name for name in names if not _is_known(ffmpeg, name)]
    if unknown:
        similar = get_close_matches(unknown[0], _known(ffmpeg), n=1, cutoff=0.7)
        raise UsageError(
            f"FFmpeg has no demuxer, protocol or input device with the option {', '.join(unknown)}",
            found=unknown,
            wanted=similar or _EXAMPLES,
            remedy=f"did you mean {similar[0]}?" if similar else f"use for example {', '.join(_EXAMPLES)}",
        )


def _ffmpeg() -> ctypes.CDLL:
    # A library's symbols are found through what was linked against it, wherever its file is.
    ffmpeg = ctypes.CDLL(core.__file__)
    ffmpeg.avformat_get_class.restype = ctypes.c_void_p
    ffmpeg.av_opt_child_class_iterate.restype = ctypes.c_void_p
    ffmpeg.av_opt_child_class_iterate.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]
    ffmpeg.av_opt_find.restype = ctypes.c_void_p
    ffmpeg.av_opt_find.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    ffmpeg.av_opt_next.restype = ctypes.POINTER(ctypes.c_char_p)
    ffmpeg.av_opt_next.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    return ffmpeg


def _is_known(ffmpeg: ctypes.CDLL, name: str) -> bool:
    root = ctypes.c_void_p(ffmpeg.avformat_get_class())
    places = _IN_CHILDREN | _OBJECT_IS_A_CLASS
    return bool(ffmpeg.av_opt_find(ctypes.byref(root), name.encode(), None, _OF_READERS, places))


def _known(ffmpeg: ctypes.CDLL) -> list[str]:
    """All names, of which some are constants: what is not known as a setting is left out."""
    names: set[str] = set()
    waiting: list[int | None] = [ffmpeg.avformat_get_class()]
    while waiting:
        above = waiting.pop()
        names.update(_own_names(ffmpeg, above))
        position = ctypes.c_void_p()
        while below := ffmpeg.av_opt_child_class_iterate(above, ctypes.byref(position)):
            waiting.append(below)
    return sorted(name for name in names if _is_known(ffmpeg, name))


def _own_names(ffmpeg: ctypes.CDLL, of_class: int | None) -> Iterable[str]:
    found = ffmpeg.av_opt_next(ctypes.byref(ctypes.c_void_p(of_class)), None)
    while found:
        yield (found[0] or b"").decode()  # the first field is the name
        found = ffmpeg.av_opt_next(ctypes.byref(ctypes.c_void_p(of_class)), found)

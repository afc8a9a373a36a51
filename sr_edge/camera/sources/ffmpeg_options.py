"""Checks the names of options for FFmpeg's demuxers, protocols and input devices.

FFmpeg ignores unknown options when it opens a stream, and PyAV does not list the options of formats and protocols. This
module looks them up with FFmpeg's AVOptions API, in the library that PyAV has loaded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from difflib import get_close_matches

from av.container import core

from sr_edge.errors import UsageError

_AV_OPT_SEARCH_CHILDREN, _AV_OPT_SEARCH_FAKE_OBJ = 1, 2
_AV_OPT_FLAG_DECODING_PARAM = 2
_EXAMPLES = ["framerate", "video_size", "timeout"]


def require_known_options(names: Iterable[str]) -> None:
    """Raises UsageError for a name that is no option of any demuxer, protocol or input device of FFmpeg."""
    ffmpeg = _ffmpeg()
    unknown = [name for name in names if not _is_known(ffmpeg, name)]
    if unknown:
        similar = get_close_matches(unknown[0], _option_names(ffmpeg), n=1, cutoff=0.7)
        raise UsageError(
            f"FFmpeg has no demuxer, protocol or input device with the option {', '.join(unknown)}",
            found=unknown,
            wanted=similar or _EXAMPLES,
            remedy=f"did you mean {similar[0]}?" if similar else f"use for example {', '.join(_EXAMPLES)}",
        )


def _ffmpeg() -> ctypes.CDLL:
    # The symbols of libavformat are found through PyAV's module, which is linked against it, wherever its file is.
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
    search_flags = _AV_OPT_SEARCH_CHILDREN | _AV_OPT_SEARCH_FAKE_OBJ
    return bool(ffmpeg.av_opt_find(ctypes.byref(root), name.encode(), None, _AV_OPT_FLAG_DECODING_PARAM, search_flags))


def _option_names(ffmpeg: ctypes.CDLL) -> list[str]:
    """The names of all options for reading, without the named constants that FFmpeg lists among them."""
    names: set[str] = set()
    pending: list[int | None] = [ffmpeg.avformat_get_class()]
    while pending:
        parent = pending.pop()
        names.update(_names_of_class(ffmpeg, parent))
        position = ctypes.c_void_p()
        while child := ffmpeg.av_opt_child_class_iterate(parent, ctypes.byref(position)):
            pending.append(child)
    return sorted(name for name in names if _is_known(ffmpeg, name))


def _names_of_class(ffmpeg: ctypes.CDLL, av_class: int | None) -> Iterable[str]:
    option = ffmpeg.av_opt_next(ctypes.byref(ctypes.c_void_p(av_class)), None)
    while option:
        yield (option[0] or b"").decode()  # the first field of AVOption is the name
        option = ffmpeg.av_opt_next(ctypes.byref(ctypes.c_void_p(av_class)), option)

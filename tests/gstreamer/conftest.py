"""The deployed bundle and its session, shared with the tests of the camera package."""

from __future__ import annotations

from tests.camera.conftest import bundle, nv12_session, session

__all__ = ["bundle", "nv12_session", "session"]

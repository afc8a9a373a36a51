"""Variants are opened on the default device of their runtime, and what cannot run is no step of the progress."""

from __future__ import annotations

from pathlib import Path

import pytest

from sr_edge.bench import OpenOptions, Row, Variant, open_variants
from sr_edge.bundle import open_bundle
from sr_edge.runtimes import SessionRequest
from sr_edge.runtimes.session import Session
from sr_edge.spec import Precision
from tests.bundle.bundles import write
from tests.model_sources.fake_runtimes import FakeRuntime, install

FP32, BF16, FP16, INT8 = Precision


def test_devices_and_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, str]] = []
    reports: list[tuple[str, int, int]] = []

    class Recording(FakeRuntime):
        def open_request(self, request: SessionRequest) -> Session:
            opened.append((self.name, request.device))
            return super().open_request(request)

    on_gpu = Recording("on-gpu", device="cuda", precisions=(FP32,))
    install(monkeypatch, on_gpu, Recording("on-cpu", precisions=(FP32,)), FakeRuntime("absent", version=""))
    variants = [Variant(name, precision) for name in ("on-gpu", "on-cpu", "absent") for precision in (FP32, BF16)]
    with open_bundle(write(tmp_path / "net.sredge")) as bundle:
        with open_variants(bundle, variants, OpenOptions(), lambda *report: reports.append(report)) as entries:
            assert all(isinstance(entry, Row) and entry.reason for entry in entries)
            assert [entry.variant for entry in entries] == variants
        assert opened == [("on-gpu", "cuda"), ("on-cpu", "cpu")]
        with open_variants(bundle, variants, OpenOptions("cpu")):
            assert opened[2:] == [("on-cpu", "cpu")]
    assert {total for _, _, total in reports} == {2}

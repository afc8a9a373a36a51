"""One measuring session on an NVIDIA GPU that is at hand for a quarter of an hour: `benchmarks/bench_gpu.py` runs it.

The session itself needs nothing but the standard library. Everything that can crash, hang or be absent happens in a
step: a process of its own with a time limit (`plan`, `process`), whose figures are kept as soon as it tells them.

    bench_gpu.py > session > page, record, telemetry, process, plan
    steps/*      > reporting                                          each runs alone: python -m gpu_session NAME
"""

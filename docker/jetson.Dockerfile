# sr-edge on a Jetson, without an engine: engines belong to one device and are built there, into the volume /cache.
#
#     docker build -f docker/jetson.Dockerfile -t sr-edge .
#     docker run --rm --runtime nvidia -v sr-edge:/cache -v "$PWD":/work sr-edge compile tiny-x2.zip
#
# BASE must have the TensorRT that shall run, with its Python package: see docs/jetson.md.
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0
FROM ${BASE}

# cuda-python follows the CUDA of the base: 12 with JetPack 6, 13 with JetPack 7 (--build-arg CUDA_PYTHON=cuda-python).
ARG CUDA_PYTHON="cuda-python>=12.6,<13"

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --system-site-packages /opt/sr-edge

COPY pyproject.toml README.md LICENSE /src/
COPY sr_edge /src/sr_edge
RUN /opt/sr-edge/bin/pip install --no-cache-dir "/src[tensorrt]" "${CUDA_PYTHON}" && rm -rf /src

ENV PATH=/opt/sr-edge/bin:${PATH} SR_EDGE_CACHE=/cache
VOLUME /cache
WORKDIR /work
ENTRYPOINT ["sr-edge"]
CMD ["doctor"]

# syntax=docker/dockerfile:1.7
# One target per face:
#   docker build --target gateway    .    no onnxruntime, no torch
#   docker build --target worker-cpu .    onnxruntime with OpenVINO, no torch
#   docker build --target worker-gpu .    onnxruntime with CUDA, no torch
#   docker build --target live       .    live sessions, on the CPU: as worker-cpu, and gRPC
#   docker build --target trainer    .    torch and onnxruntime, both on the CPU
# A trainer on a GPU is the same image with another torch, whose wheel brings CUDA along:
#   docker build --target trainer --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
# Every package comes as a wheel, so no image holds a compiler.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm
# Where the trainer's torch comes from; PyPI's own takes gigabytes of CUDA packages.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# --- environments: built here, copied below ---------------------------------------------------

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
RUN python -m venv /opt/warpline
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY models models
COPY trainer trainer

FROM build AS build-gateway
RUN /opt/warpline/bin/pip install --only-binary :all: ".[gateway,dicom]"

FROM build AS build-worker-cpu
RUN /opt/warpline/bin/pip install --only-binary :all: ".[worker-cpu,dicom]"

FROM build AS build-worker-gpu
RUN /opt/warpline/bin/pip install --only-binary :all: ".[worker-gpu,dicom]"

FROM build AS build-live
RUN /opt/warpline/bin/pip install --only-binary :all: ".[worker-cpu,live]"

FROM build AS build-trainer
ARG TORCH_INDEX
RUN /opt/warpline/bin/pip install --only-binary :all: --extra-index-url "$TORCH_INDEX" \
    ".[worker-cpu,dicom,trainer]"

# --- gateway ----------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS gateway
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/warpline warpline \
    && install -d -o warpline -g warpline /var/lib/warpline
COPY --from=build-gateway /opt/warpline /opt/warpline
COPY models /opt/models
ENV PATH=/opt/warpline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    WARPLINE_DATA_DIR=/var/lib/warpline WARPLINE_MODELS_DIR=/opt/models
WORKDIR /var/lib/warpline
USER 10001:10001
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
CMD ["python", "-m", "service.gateway.main"]

# --- worker, CPU ------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS worker-cpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/warpline warpline \
    && install -d -o warpline -g warpline /var/lib/warpline /var/cache/warpline
COPY --from=build-worker-cpu /opt/warpline /opt/warpline
COPY models /opt/models
# The kernels are compiled for the machine's processor at the first job and kept in the cache.
ENV PATH=/opt/warpline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/var/cache/warpline \
    WARPLINE_DATA_DIR=/var/lib/warpline WARPLINE_MODELS_DIR=/opt/models
WORKDIR /var/lib/warpline
USER 10001:10001
HEALTHCHECK --interval=20s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from service.settings import settings; from service.stores.build import open_stores; open_stores(settings()).jobs.ping()"]
CMD ["python", "-m", "service.worker.main"]

# --- worker, GPU ------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS worker-gpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/warpline warpline \
    && install -d -o warpline -g warpline /var/lib/warpline /var/cache/warpline
COPY --from=build-worker-gpu /opt/warpline /opt/warpline
COPY models /opt/models
# CUDA came with the wheels; the container toolkit brings the driver in where these ask for it.
ENV PATH=/opt/warpline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/var/cache/warpline \
    WARPLINE_DATA_DIR=/var/lib/warpline WARPLINE_MODELS_DIR=/opt/models WARPLINE_PROVIDER=cuda \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /var/lib/warpline
USER 10001:10001
HEALTHCHECK --interval=20s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from service.settings import settings; from service.stores.build import open_stores; open_stores(settings()).jobs.ping()"]
CMD ["python", "-m", "service.worker.main"]

# --- live sessions, CPU -----------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS live
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/warpline warpline \
    && install -d -o warpline -g warpline /var/lib/warpline /var/cache/warpline
COPY --from=build-live /opt/warpline /opt/warpline
COPY models /opt/models
ENV PATH=/opt/warpline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/var/cache/warpline \
    WARPLINE_DATA_DIR=/var/lib/warpline WARPLINE_MODELS_DIR=/opt/models
WORKDIR /var/lib/warpline
USER 10001:10001
EXPOSE 8090 8091
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8091/healthz', timeout=2)"]
CMD ["python", "-m", "service.live.main"]

# --- trainer ----------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS trainer
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/warpline warpline \
    && install -d -o warpline -g warpline /var/lib/warpline /var/cache/warpline
COPY --from=build-trainer /opt/warpline /opt/warpline
COPY models /opt/models
ENV PATH=/opt/warpline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/var/cache/warpline \
    WARPLINE_DATA_DIR=/var/lib/warpline WARPLINE_MODELS_DIR=/opt/models WARPLINE_QUEUES=train
WORKDIR /var/lib/warpline
USER 10001:10001
HEALTHCHECK --interval=20s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from service.settings import settings; from service.stores.build import open_stores; open_stores(settings()).jobs.ping()"]
CMD ["python", "-m", "service.worker.main"]

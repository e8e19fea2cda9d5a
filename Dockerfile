# Two images from one file: `docker build --target cpu .` and `docker build --target gpu .`.
# Both run as a user without rights, listen on every address of the container, and refuse to start
# without TLS and tokens unless told VEDETTE_SERVER_INSECURE=true (docs/operating.md). What monitoring keeps belongs
# in /state, engines in /engines: mount volumes there.

FROM python:3.13-slim-trixie AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim-trixie AS cpu-environment
COPY --from=wheel /wheels /wheels
RUN python -m venv /opt/vedette \
 && /opt/vedette/bin/pip install --no-cache-dir "vedette[cpu,postgres] @ file://$(echo /wheels/vedette-*.whl)"

# CUDA's libraries come as wheels with the extras, TensorRT and the video codec likewise: the base image brings the
# driver's environment and no toolkit. Kernels are compiled already, so no compiler is needed; pycuda would need one.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04 AS gpu-python
# The authorities are those that sinks behind https and mqtts are checked by.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*

FROM gpu-python AS gpu-environment
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /wheels /wheels
RUN python3 -m venv /opt/vedette \
 && /opt/vedette/bin/pip install --no-cache-dir "vedette[build,gpu,nvdec,postgres,profile,tensorrt] @ file://$(echo /wheels/vedette-*.whl)"

FROM gpu-python AS gpu
COPY --from=gpu-environment /opt/vedette /opt/vedette
# Decoding needs the driver's video libraries, which the container toolkit leaves out unless it is told.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    CUDA_CACHE_PATH=/tmp/cuda-cache
# The base image has a user of its own with the number 1000.
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vedette \
 && install -d -o 10001 -g 10001 /engines \
 && install -d -o 10001 -g 10001 -m 700 /state
ENV PATH=/opt/vedette/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    VEDETTE_SERVER_HOST=0.0.0.0 \
    VEDETTE_METRICS_HOST=0.0.0.0 \
    VEDETTE_ENGINES_DIR=/engines
USER 10001
VOLUME ["/engines", "/state"]
EXPOSE 50051 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "vedette_client.health"]
# The exec form: signals reach the server, which drains.
STOPSIGNAL SIGTERM
ENTRYPOINT ["vedette", "serve"]

FROM python:3.13-slim-trixie AS cpu
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/*
COPY --from=cpu-environment /opt/vedette /opt/vedette
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vedette \
 && install -d -o 10001 -g 10001 /engines \
 && install -d -o 10001 -g 10001 -m 700 /state
ENV PATH=/opt/vedette/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    VEDETTE_SERVER_HOST=0.0.0.0 \
    VEDETTE_METRICS_HOST=0.0.0.0 \
    VEDETTE_ENGINES_DIR=/engines
USER 10001
VOLUME ["/engines", "/state"]
EXPOSE 50051 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "vedette_client.health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["vedette", "serve"]

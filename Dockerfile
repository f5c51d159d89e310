# Two images from one file:
#   docker build --target serve -t trainserve .          the service: no torch, no prefect
#   docker build --target train -t trainserve-train .    the whole chain, for machines with or without a GPU
#
#   docker run -p 3000:3000 -v trainserve-models:/models trainserve
#
# Behind a proxy that signs with its own authority: --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt

FROM debian:bookworm-slim AS python
RUN apt-get update --quiet --quiet \
    && apt-get install --yes --quiet --quiet --no-install-recommends python3 >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 \
    BENTOML_DO_NOT_TRACK=True \
    PREFECT_SERVER_ANALYTICS_ENABLED=false
# Numbers, not names: Kubernetes can then see that this is not root.
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin trainserve \
    && install --directory --owner=10001 --group=10001 /models /work


FROM python AS builder
RUN apt-get update --quiet --quiet \
    && apt-get install --yes --quiet --quiet --no-install-recommends python3-venv >/dev/null
WORKDIR /src
# Compiled here because the user of the finished image cannot write bytecode; copied because layers have no hard links.
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1
COPY requirements.lock ./
RUN --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --quiet --disable-pip-version-check --no-cache-dir --constraint requirements.lock uv
# Dependencies before sources: a change in the code does not install them again.
COPY pyproject.toml ./
RUN --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && /opt/uv/bin/uv venv --quiet --python /usr/bin/python3 /opt/venv \
    && /opt/uv/bin/uv pip install --quiet --python /opt/venv --constraint requirements.lock --requirement pyproject.toml


FROM builder AS builder-serve
COPY README.md LICENSE ./
COPY data ./data
COPY models ./models
COPY serving ./serving
COPY flows ./flows
RUN --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && /opt/uv/bin/uv pip install --quiet --python /opt/venv --no-deps --build-constraint requirements.lock .


FROM builder AS builder-train
RUN --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && /opt/uv/bin/uv pip install --quiet --python /opt/venv --constraint requirements.lock \
       --requirement pyproject.toml --extra train
COPY README.md LICENSE ./
COPY data ./data
COPY models ./models
COPY serving ./serving
COPY flows ./flows
RUN --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && /opt/uv/bin/uv pip install --quiet --python /opt/venv --no-deps --build-constraint requirements.lock .


FROM python AS train
COPY --from=builder-train /opt/venv /opt/venv
ENV TRAINSERVE_HOME=/work BENTOML_HOME=/models PREFECT_HOME=/work/prefect
USER 10001:10001
WORKDIR /work
VOLUME ["/work", "/models"]
# No entry point: a pool of containers starts its own command (prefect.yaml).
CMD ["trainserve", "--help"]


FROM python AS serve
COPY --from=builder-serve /opt/venv /opt/venv
ENV BENTOML_HOME=/models \
    TRAINSERVE_HOST=0.0.0.0 \
    TRAINSERVE_PORT=3000 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /models
VOLUME ["/models"]
EXPOSE 3000
# Alive, not ready: a container that waits for its first model is healthy.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"TRAINSERVE_PORT\"]}/livez', timeout=2)"]
CMD ["trainserve", "serve"]

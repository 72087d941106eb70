# HQ with its web UI. From the root of the repository:
#   docker build -f docker/hq.Dockerfile -t agentrelay-hq .
# A web UI that is already built (make build-web) is taken as it is; NODE_IMAGE then need not have Node.
ARG BASE_IMAGE=debian:12-slim
ARG NODE_IMAGE=node:20-bookworm-slim

FROM ${NODE_IMAGE} AS web
WORKDIR /src
COPY web web
COPY agentrelay/hq agentrelay/hq
RUN test -f agentrelay/hq/ui/index.html || (cd web && npm ci --no-audit --no-fund && npm run build)

FROM ${BASE_IMAGE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev python3-dev python3-venv \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements requirements
RUN python3 -m venv /build \
    && /build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && python3 -m venv --without-pip /opt/agentrelay \
    && /build/bin/pip --python /opt/agentrelay/bin/python install --no-cache-dir --require-hashes -r requirements/run.txt
COPY . .
COPY --from=web /src/agentrelay/hq/ui agentrelay/hq/ui
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /build/bin/pip --python /opt/agentrelay/bin/python install --no-cache-dir --no-deps /wheels/*.whl

FROM ${BASE_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --user-group --no-create-home --uid 990 agentrelay \
    && install -d -m 0700 -o agentrelay -g agentrelay /var/lib/agentrelay
COPY --from=build /opt/agentrelay /opt/agentrelay
# Reached from outside the container, so HQ asks for a real RUNNER_TOKEN and knows no default.
ENV PATH=/opt/agentrelay/bin:$PATH \
    HOST=0.0.0.0 \
    PORT=8080 \
    AGENTRELAY_DATA_DIR=/var/lib/agentrelay
USER agentrelay
VOLUME /var/lib/agentrelay
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/health', timeout=4)"]
ENTRYPOINT ["agentrelay-hq"]

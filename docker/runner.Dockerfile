# A runner. From the root of the repository:
#   docker build -f docker/runner.Dockerfile -t agentrelay-runner .
# It has a shell and git; agents are added on top (FROM agentrelay-runner, USER root, RUN ..., USER agent).
ARG BASE_IMAGE=debian:12-slim

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
    && /build/bin/pip --python /opt/agentrelay/bin/python install --no-cache-dir --require-hashes -r requirements/runner.txt
COPY . .
RUN AGENTRELAY_WEB_UI=none /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /build/bin/pip --python /opt/agentrelay/bin/python install --no-cache-dir --no-deps /wheels/*.whl

FROM ${BASE_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends bash ca-certificates git procps python3 tini \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 --shell /bin/bash agent
COPY --from=build /opt/agentrelay /opt/agentrelay
ENV PATH=/opt/agentrelay/bin:$PATH \
    LANG=C.UTF-8 \
    SHELL=/bin/bash
USER agent
WORKDIR /home/agent
# Programs that an agent leaves behind need somebody to reap them: tini, also where it is not process 1 (-s).
ENTRYPOINT ["tini", "-s", "--", "agentrelay-runner"]

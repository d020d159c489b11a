# syntax=docker/dockerfile:1
# One image for the four services, their migrations and the files of the gateway; the command says which:
#   docker build --build-arg COMMIT="$(git rev-parse HEAD)" --build-arg TIME="$(git log -1 --format=%cI)" -t flyteplane .
#   docker run flyteplane services.registry            docker run flyteplane services.registry migrate
# docs/operating/image.md describes it. A build that must give the same image twice sets PYTHON_IMAGE to a digest.

ARG PYTHON_IMAGE=python:3.11-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PYTHONDONTWRITEBYTECODE=1
# For `strip`. Any version does, and Debian keeps only the newest.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
COPY requirements-image.lock /build/
# Wheels only, each with its hash: nothing is compiled. Tests, type stubs, symbols for debuggers and pip are of no use in
# the image; the symbols alone are 20 MB.
RUN python -m venv --without-pip /opt/flyteplane \
    && python -m pip --python /opt/flyteplane/bin/python install --require-hashes --no-deps --no-compile \
        --only-binary :all: --requirement /build/requirements-image.lock \
    && find /opt/flyteplane -depth -type d \( -name tests -o -name testing \) -exec rm -rf {} + \
    && find /opt/flyteplane -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' \) -delete \
    && find /opt/flyteplane -type f -name '*.so*' -exec strip --strip-unneeded {} +
COPY pyproject.toml LICENSE /opt/flyteplane/app/
COPY services /opt/flyteplane/app/services
COPY gateway /opt/flyteplane/app/gateway
COPY deploy/__init__.py deploy/nats_users.py deploy/release_test.py /opt/flyteplane/app/deploy/
ARG COMMIT=unknown
ARG TIME=""
# Compiled here, as the running container writes nothing; checked by hash, as times change when layers are made again.
RUN printf 'commit = "%s"\ntime = "%s"\n' "$COMMIT" "$TIME" > /opt/flyteplane/app/build.toml \
    && /opt/flyteplane/bin/python -m compileall -q --invalidation-mode unchecked-hash -j 0 /opt/flyteplane

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Flyteplane" org.opencontainers.image.licenses="Apache-2.0"
# A name for the user: libpq looks it up.
RUN groupadd --gid 65532 flyteplane \
    && useradd --uid 65532 --gid flyteplane --home-dir /nonexistent --no-create-home --no-log-init \
        --shell /usr/sbin/nologin flyteplane
COPY --from=build /opt/flyteplane /opt/flyteplane
WORKDIR /opt/flyteplane/app
ENV PATH=/opt/flyteplane/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# By number: Kubernetes checks `runAsNonRoot` without the image's names.
USER 65532:65532
EXPOSE 8081 8082 8083
ENTRYPOINT ["python", "-m"]
CMD ["services.projects", "--help"]

# The daemon as a container: `docker build -t gmail-outlook-syncer .`
# Another base, or one pinned by digest: --build-arg PYTHON_IMAGE=...
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements-cli.txt /build/
# Exactly what was tested: every package by its hash, wheels only, so nothing is compiled here.
RUN pip install --quiet --root-user-action=ignore --require-hashes --only-binary :all: --no-compile \
    --target /build/app -r /build/requirements-cli.txt
COPY syncer /build/app/syncer
# The demo brings servers of its own, and its packages are not here. Bytecode is made now, because the
# root file system is read-only later; by hash, so that the time of the build is not part of it.
# Of the SDK's descriptions of every AWS service stay those that are called, and those that credentials come from.
RUN rm -rf /build/app/syncer/demo /build/app/bin \
    && find /build/app/botocore/data -mindepth 1 -maxdepth 1 -type d ! -name dynamodb ! -name secretsmanager \
       ! -name sts ! -name signin ! -name 'sso*' -exec rm -rf {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash -j 0 /build/app

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="gmail-outlook-syncer" \
      org.opencontainers.image.description="Copies new mail from Gmail to Outlook.com over IMAP, exactly once" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /build/app /app
ENV PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HEALTH_FILE=/tmp/syncer-health.json
# Any other user will do (`user: "1026:100"` on a Synology): nothing here is written to but /tmp and the tokens' folder.
RUN printf '#!/bin/sh\nexec python -m syncer "$@"\n' > /usr/local/bin/syncer && chmod 755 /usr/local/bin/syncer \
    && mkdir /tokens && chown 10001:10001 /tokens \
    && python -m pip uninstall --quiet --yes --root-user-action=ignore pip
USER 10001:10001
WORKDIR /
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=10s --start-period=120s --retries=2 CMD ["python", "-m", "syncer", "health"]
ENTRYPOINT ["python", "-m", "syncer"]
CMD ["daemon"]

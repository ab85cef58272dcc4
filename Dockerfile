# docker build -t fileroom:local .
# For images of another registry: --build-arg PYTHON_IMAGE=registry.example.org/python:3.12-slim
ARG NODE_IMAGE=node:22-slim
ARG PYTHON_IMAGE=python:3.12-slim

# The viewer as it was published; `fileroom viewer install` below compares its checksum.
FROM ${NODE_IMAGE} AS viewer
WORKDIR /viewer
RUN npm pack --ignore-scripts @ohif/app@3.13.2

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN python -m venv /opt/fileroom
COPY pyproject.toml README.md LICENSE ./
COPY archive archive
COPY dimse dimse
COPY dicomweb dicomweb
COPY storage storage
RUN /opt/fileroom/bin/pip install --no-cache-dir --disable-pip-version-check ".[postgresql,s3,codecs]"
COPY --from=viewer /viewer /tmp/viewer
RUN FILEROOM_VIEWER__FOLDER=/opt/viewer /opt/fileroom/bin/fileroom viewer install --file /tmp/viewer/*.tgz

FROM ${PYTHON_IMAGE}
RUN groupadd --system --gid 10001 fileroom \
 && useradd --system --uid 10001 --gid 10001 --home-dir /data --shell /usr/sbin/nologin fileroom \
 && install -d -o fileroom -g fileroom /data
COPY --from=build /opt/fileroom /opt/fileroom
COPY --from=build /opt/viewer /opt/viewer
ENV PATH=/opt/fileroom/bin:$PATH \
    FILEROOM_ARCHIVE__DATA_DIR=/data \
    FILEROOM_VIEWER__FOLDER=/opt/viewer \
    FILEROOM_HTTP__HOST=0.0.0.0 \
    FILEROOM_DIMSE__HOST=0.0.0.0
# Beyond loopback the archive starts only when what strangers may do is written out; and it must be
# given longer to end than [archive] drain_timeout_s:
#   docker run -e FILEROOM_AUTH__ALLOW_ANONYMOUS='["read", "write"]' --stop-timeout 45 ...
# By number, so that Kubernetes sees that it is not root.
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080 11112
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health/ready', timeout=4)"]
ENTRYPOINT ["fileroom"]
CMD ["serve"]

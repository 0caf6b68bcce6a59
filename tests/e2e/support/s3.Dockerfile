# A real S3 server, built from its Go module by hack/testbed.
FROM docker.io/library/python:3.11-slim
COPY versitygw /usr/local/bin/versitygw
USER 65532:65532

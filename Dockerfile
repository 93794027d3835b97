# The image of assetd: one static binary, no shell, no root.
#
#   docker build -t assetd --build-arg VERSION=1.2.3 .
#   docker run -d --read-only --cap-drop ALL --security-opt no-new-privileges \
#     -e ASSETD_API_KEY -v assetd-data:/data assetd
#
# deploy/compose.yaml does the same with the key in a file.

# By digest for a build that can be repeated: --build-arg GO_IMAGE=golang:1.26@sha256:...
ARG GO_IMAGE=golang:1.26

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd ./cmd
COPY internal ./internal
ARG VERSION=
ARG TARGETOS
ARG TARGETARCH
# timetzdata puts the time zones into the binary: there is no file system to read them from.
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -tags timetzdata \
      -ldflags="-s -w -X main.version=$VERSION" -o /out/assetd ./cmd/assetd
# A volume takes owner and mode from the directory that it covers: each of these can be one.
RUN install -d /out/data && install -d -m 0750 /out/data/state /out/data/assets && install -d -m 2770 /out/data/drop

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/assetd /assetd
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
# 8s: docker stop kills after 10.
ENV ASSETD_DATA_DIR=/data ASSETD_SHUTDOWN_GRACE=8s
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["/assetd", "health"]
ENTRYPOINT ["/assetd"]
CMD ["run"]

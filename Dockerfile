# A static binary in an image with nothing else but the certificates of public authorities.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /klink ./cmd/klink

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /klink /klink
# No user database here: the numeric id of distroless images' nonroot.
USER 65532:65532
# 19092 is the bootstrap port, the brokers follow (19093, 19094, ...); 8080 is a usual choice for --http.
EXPOSE 19092-19102 8080
ENTRYPOINT ["/klink"]
CMD ["serve", "--help"]

# The image of the operator, from source: one program, the libraries that it is loaded with, the certificates of public
# authorities, and an account without rights. Time zones are compiled into the program.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates make
WORKDIR /source
COPY . .
RUN cargo build --release --locked --package flywheel --bin flywheel-operator
RUN set -eu; \
    install -D --mode=755 target/release/flywheel-operator /image/bin/flywheel-operator; \
    for library in $(ldd target/release/flywheel-operator | grep --only-matching '/[^ ]*'); do \
        install -D --mode=755 "$library" "/image$library"; \
    done; \
    install -D --mode=644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt; \
    echo 'nonroot:x:65532:65532::/:/sbin/nologin' > /image/etc/passwd; \
    echo 'nonroot:x:65532:' > /image/etc/group; \
    echo 'hosts: files dns' > /image/etc/nsswitch.conf; \
    install -d --mode=1777 /image/tmp

FROM scratch
COPY --from=build /image/ /
USER 65532:65532
ENTRYPOINT ["/bin/flywheel-operator"]

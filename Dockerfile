# The image holds the binary, the libraries it needs and the system's certificate authorities; no shell, no package manager.
#
#   docker build -t rowcast .
#   docker run -v ./config:/etc/rowcast:ro rowcast

FROM rust:1-bookworm AS build
# For librdkafka's own ./configure && make, with OpenSSL.
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ libssl-dev make perl pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Dependencies stay compiled between builds. Our own files are touched: with an older date than the last build (an archive, a
# restored checkout) they would count as compiled.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    find src connectors -type f -exec touch {} + \
 && cargo build --release --locked --bin rowcast \
 && install -D target/release/rowcast /out/usr/local/bin/rowcast

# Debian's packages, unpacked, without what only a shell or an installation needs. The list below var/lib/dpkg/status.d is where
# scanners look for the packages of an image without dpkg.
FROM debian:bookworm-slim AS runtime
WORKDIR /packages
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && chown _apt . \
 && apt-get download base-files libc6 libgcc-s1 libssl3 netbase \
 && mkdir -p /out/var/lib/dpkg/status.d \
 && for package in *.deb; do \
      dpkg-deb --extract "$package" /out \
      && dpkg-deb --field "$package" >"/out/var/lib/dpkg/status.d/${package%%_*}" || exit 1; \
    done \
 && rm -rf /out/bin /out/sbin /out/usr/bin /out/usr/sbin /out/usr/lib/*/gconv /out/usr/share/lintian /out/usr/share/man \
 && find /out/usr/share/doc -type f ! -name copyright -delete \
 && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt \
 && printf 'root:x:0:0:root:/root:/sbin/nologin\nrowcast:x:10001:10001:rowcast:/var/lib/rowcast:/sbin/nologin\n' >/out/etc/passwd \
 && printf 'root:x:0:\nrowcast:x:10001:\n' >/out/etc/group \
 && cp /etc/nsswitch.conf /out/etc/ \
 && install -d -m 1777 /out/tmp \
 && install -d -o 10001 -g 10001 -m 750 /out/var/lib/rowcast \
 && install -d /out/etc/rowcast
COPY --from=build /out /out
# Fails here, not at the first start, if the binary needs a library that isn't in the image.
RUN chroot /out /usr/local/bin/rowcast --version

FROM scratch
LABEL org.opencontainers.image.title="rowcast" \
      org.opencontainers.image.description="Change data capture from PostgreSQL, MySQL and MariaDB into Kafka, exactly once" \
      org.opencontainers.image.source="https://github.com/rowcast/rowcast" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=runtime /out /
ENV PATH=/usr/local/bin \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    ROWCAST_STATUS_FILE=/tmp/rowcast.status.json
# By number, so that an orchestrator can see that it isn't root.
USER 10001:10001
# Checkpoints of sources whose sink is a file or the standard output are kept here; those with Kafka keep them in Kafka.
WORKDIR /var/lib/rowcast
VOLUME /var/lib/rowcast
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["rowcast", "health"]
ENTRYPOINT ["rowcast"]
CMD ["run", "/etc/rowcast"]

FROM rust:1.95-slim-bookworm AS builder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin farebox

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --user-group --home-dir /var/lib/farebox --shell /usr/sbin/nologin farebox \
    && install --directory --owner farebox --group farebox --mode 700 /var/lib/farebox
COPY --from=builder /src/target/release/farebox /usr/local/bin/farebox
# `docker stop -t 30` gives requests under way their time, and `docker kill -s HUP` reads the
# configuration again (docs/operating.md, "In a container").
USER farebox
WORKDIR /var/lib/farebox
VOLUME /var/lib/farebox
EXPOSE 8402
ENTRYPOINT ["farebox"]
CMD ["serve", "--config", "/var/lib/farebox/farebox.toml"]

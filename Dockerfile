# The service alone; its database is the TimescaleDB container of docker-compose.yml.
# Untested: there is no container engine where this project is built and tested.
FROM node:22-slim AS page
WORKDIR /build/page
COPY page ./
RUN npm ci --ignore-scripts --no-audit --no-fund && npm run build

FROM python:3.12-slim

# A number, by which Kubernetes can tell that it is not root.
RUN useradd --system --uid 10001 --create-home promcompat
WORKDIR /opt/promcompat
COPY pyproject.toml README.md LICENSE ./
COPY promcompat ./promcompat
COPY native_api ./native_api
COPY promql ./promql
COPY sql ./sql
COPY --from=page /build/promcompat/page ./promcompat/page
RUN pip install --no-cache-dir .

# As root: every account, whatever `--user` says, loads them from /var/cache/promcompat. They are for the
# processor that builds the image; on another one the service compiles them when it starts.
RUN promcompat compile-kernels
USER 10001
# Every address of the container: the service starts only with PROMCOMPAT_ACCESS=tokens, or with
# PROMCOMPAT_ALLOW_UNAUTHENTICATED=true where trusted machines alone reach it (docs/network.md).
ENV PROMCOMPAT_LISTEN=0.0.0.0:9201
EXPOSE 9201
# With TLS, give `docker run` a --health-cmd that uses https.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9201/-/healthy', timeout=2)"]
# Exec form, so that SIGTERM reaches the service, which then shuts down cleanly.
CMD ["promcompat", "serve"]

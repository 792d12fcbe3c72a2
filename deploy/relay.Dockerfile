# The relay, and the console for its operators: neither Node nor torch is in this image.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY ai_enclave ai_enclave
COPY attestation attestation
COPY messaging messaging
COPY migrations migrations
COPY signal_protocol signal_protocol
RUN python -m venv /opt/subrosa \
    && /opt/subrosa/bin/pip install --no-cache-dir --constraint constraints.txt ".[console,telemetry]"

FROM python:3.11.14-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home subrosa \
    && install --directory --owner 10001 --group 10001 --mode 700 \
        /var/lib/subrosa/attachments /var/lib/subrosa/generation
COPY --from=build /opt/subrosa /opt/subrosa
ENV PATH=/opt/subrosa/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8443 8480
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=6 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8443/v1/health/ready', timeout=2)"]
ENTRYPOINT ["subrosa", "relay"]

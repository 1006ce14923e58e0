# One image for every pod: pipeline steps (kfp must be inside them), allocator, Ray nodes and MLflow server.
#
#   docker build -t alm-mta:0.1.0 .
#
# torch   By default the pin of constraints.txt: the CPU build wherever pip's sources offer it. To insist on it:
#           --build-arg TORCH=torch==2.13.0+cpu      (fails rather than bring the CUDA packages)
#         For GPU nodes, the CUDA build as your index names it, or another release in pyproject's range:
#           --build-arg TORCH=torch==2.13.0+cuXYZ
# pip     An own index, wheel folder or certificate: --secret id=pip,src=pip.conf (never stored in a layer).
# base    BASE_IMAGE is any Debian; PYTHON names its interpreter, 3.11 or 3.12 with the venv module.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

ARG PYTHON=python3
ARG TORCH=""

# wget: the probes that KubeRay adds to Ray pods call it.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates wget \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --create-home alm

WORKDIR /opt/alm-mta
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GX_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    RAY_USAGE_STATS_ENABLED=0

# The dependencies are a layer of their own, rebuilt only when the pins change. ray[default] is Ray's dashboard: RayJobs are
# submitted through it.
COPY pyproject.toml constraints.txt ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/var/cache/pip \
    ${PYTHON} -m venv /opt/venv \
 && if [ -n "${TORCH}" ]; then sed -i "s/^torch==.*/${TORCH}/" constraints.txt; fi \
 && python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*p["dependencies"], *(d for e in ("ray", "s3", "gs") for d in p["optional-dependencies"][e]), "ray[default]", sep="\n")' > /tmp/requirements.txt \
 && pip install --cache-dir /var/cache/pip -c constraints.txt -r /tmp/requirements.txt \
 && rm /tmp/requirements.txt

COPY . .
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/var/cache/pip \
    pip install --cache-dir /var/cache/pip --no-deps . \
 && rm -rf build *.egg-info \
 && pip check

USER 10001:10001
WORKDIR /home/alm
ENTRYPOINT ["alm-mta"]

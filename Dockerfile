# CPU:  docker build -t medzoo .
# CUDA: docker build -t medzoo:cuda --build-arg BASE=pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime .
ARG BASE=python:3.12-slim
FROM ${BASE}

# The base's own torch is used if it has one; otherwise this index has one without CUDA, a tenth of the size.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=imagenet,dicom,nifti

WORKDIR /src
COPY pyproject.toml README.md LICENSE registry.toml ./
COPY core core
COPY plugins plugins
COPY cards cards
RUN python3 -m venv --system-site-packages /opt/medzoo \
    && /opt/medzoo/bin/pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" ".[${EXTRAS}]" \
    && rm -rf /src/*

# Writable for any user, as docker run --user "$(id -u)" gives images to whoever runs it.
RUN useradd --create-home --uid 10001 medzoo && mkdir --mode 1777 /cache /work
ENV PATH=/opt/medzoo/bin:$PATH MEDZOO_CACHE=/cache HF_HOME=/cache/huggingface MPLCONFIGDIR=/tmp/matplotlib
VOLUME /cache
USER 10001
WORKDIR /work
ENTRYPOINT ["medzoo"]
CMD ["list"]

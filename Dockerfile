# The first line of README.md, in an image:
#
#   docker build -t d2ext .
#   docker run --rm d2ext
#   docker run --rm --gpus all --ipc=host -v "$PWD:/data" d2ext \
#       d2ext-train --train /data/mine --output /data/run
#
# Operators are compiled for the CPU, for which the compiler is here. For CUDA kernels give an image
# with Python and nvcc: --build-arg BASE=...
ARG BASE=python:3.12-slim
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /d2ext
COPY . .
RUN pip install --no-cache-dir -e .
CMD ["python", "tools/train_net.py", "--config-file", "configs/dyhead_swint.yaml", "--num-gpus", "1"]

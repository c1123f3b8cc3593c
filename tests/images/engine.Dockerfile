# The double of an engine, for the tests of the container runner.
FROM enginebench-base
COPY double_server.py /
ENTRYPOINT ["python3", "/double_server.py"]

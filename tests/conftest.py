"""For all tests."""

from __future__ import annotations

import os

# Small models, often beside other processes: threads that wait for each other in a spin cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# vLLM would bind every server to the same core.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

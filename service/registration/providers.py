"""Where a graph may run, and whether it does: the only place that imports onnxruntime."""

import ctypes
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from service.errors import MissingExtraError, ModelInvalidError, ProviderUnavailableError
from service.registration.card import Provider

PROVIDER_NAMES: Final[dict[Provider, str]] = {
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
# In whole float32: a GPU's TF32 keeps ten bits, and its field would not be the CPU's.
PROVIDER_SETTINGS: Final[dict[Provider, dict[str, str]]] = {
    "cuda": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
    "openvino": {},
    "cpu": {},
}
CAPTURING: Final[dict[Provider, dict[str, str]]] = {"cuda": {"enable_cuda_graph": "1"}}
# Shape arithmetic belongs on the CPU; these do the work, and on a GPU must run there.
HEAVY_OPS: Final = {
    "AveragePool",
    "Conv",
    "ConvTranspose",
    "Einsum",
    "FusedMatMul",
    "Gemm",
    "GridSample",
    "InstanceNormalization",
    "MatMul",
    "MaxPool",
    "Resize",
    "Softmax",
}


def onnxruntime() -> Any:
    """The module, heavy, and only where a graph runs.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import onnxruntime as module
    except ImportError as error:
        raise MissingExtraError(
            "Running a model needs onnxruntime; install the extra worker-cpu or worker-gpu."
        ) from error
    return module


def settings_of(provider: Provider, *, cuda_graphs: bool = False) -> dict[str, str]:
    """What a provider is told; `cuda_graphs` only says something to CUDA."""
    return PROVIDER_SETTINGS[provider] | (CAPTURING.get(provider, {}) if cuda_graphs else {})


def start_session(
    graph: Path | bytes,
    provider: Provider,
    threads: int,
    *,
    cuda_graphs: bool = False,
    sizes: Mapping[str, int] | None = None,
) -> Any:
    """A session of a graph where it was asked for, nowhere else; see `require_provider`.

    Args:
        graph: The file, or what it holds.
        provider: Where it runs.
        threads: Of the CPU.
        cuda_graphs: Whether runs may be captured and played again; only CUDA takes notice.
        sizes: Of what the graph names in its inputs' shapes, if they will always be the same.

    Raises:
        ModelInvalidError: If the graph does not load.
        ProviderUnavailableError: If the provider does not start.
        MissingExtraError: If onnxruntime is not installed.
    """
    ort = onnxruntime()
    if provider == "cuda":
        _bring_cuda()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    # A plan of which values share memory takes seconds for thousands of operators, and one kept for
    # each size doubles the memory: values are freed as soon as the last operator has used them.
    options.enable_mem_reuse = options.enable_mem_pattern = False
    # The kernels between two runs need the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    for name, size in (sizes or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    source = graph if isinstance(graph, bytes) else str(graph)
    chosen = (PROVIDER_NAMES[provider], settings_of(provider, cuda_graphs=cuda_graphs))
    try:
        return ort.InferenceSession(source, options, providers=[chosen])
    except Exception as error:  # onnxruntime's own have no common base
        if provider == "cpu":
            raise ModelInvalidError("The model's graph cannot be loaded.") from error
        raise ProviderUnavailableError(
            f"The model does not start on {provider}. Set WARPLINE_PROVIDER=cpu."
        ) from error


def require_provider(session: Any, provider: Provider, *, whole: bool = False) -> None:
    """Refuse a session that runs elsewhere than it was asked to.

    onnxruntime falls back to the CPU with a log line when a provider cannot start, and puts
    single nodes there that a provider lacks.

    Args:
        session: Started with `session.record_ep_graph_assignment_info`.
        provider: Where it was asked to run.
        whole: Whether no node at all may be left to the CPU of a GPU; else shape arithmetic may.

    Raises:
        ProviderUnavailableError: If the provider did not start, or if, on a GPU, an operator that
            may not be there was left to the CPU.
    """
    name = PROVIDER_NAMES[provider]
    if name not in session.get_providers():
        lacks = f": {_lacking_for_cuda()}" if provider == "cuda" else "."
        raise ProviderUnavailableError(
            f"The {provider} provider did not start on this machine{lacks}"
        )
    if provider != "cuda":
        return
    strayed = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != name
        for node in part.get_nodes()
    }
    strayed = strayed if whole else strayed & HEAVY_OPS
    if strayed:
        raise ProviderUnavailableError(
            f"On {provider}, these operators would run on the CPU: {', '.join(sorted(strayed))}."
        )


@lru_cache(maxsize=1)
def _bring_cuda() -> None:
    """Load CUDA's libraries and cuDNN from where pip puts them, or else from where the system does.

    What it says of missing ones goes to the error stream: what a command prints may be JSON.
    """
    with redirect_stdout(sys.stderr):
        onnxruntime().preload_dlls(directory="")


def _lacking_for_cuda() -> str:
    """Why CUDA does not start, as far as it shows, and what to do."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver (libcuda.so.1). WARPLINE_PROVIDER=cpu does without."
    return (
        "its driver is too old, or CUDA's libraries or cuDNN are missing, which the extra "
        "worker-gpu brings. WARPLINE_PROVIDER=cpu does without."
    )

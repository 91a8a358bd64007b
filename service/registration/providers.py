"""Where a network may run, and whether it does."""

from typing import Any, Final

from service.errors import ProviderUnavailableError
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


def require_provider(session: Any, provider: Provider) -> None:
    """Refuse a session that runs elsewhere than it was asked to.

    onnxruntime falls back to the CPU with a log line when a provider cannot start, and puts
    single nodes there that a provider lacks.

    Raises:
        ProviderUnavailableError: If the provider did not start, or if, on a GPU, an operator that
            does real work was left to the CPU.
    """
    name = PROVIDER_NAMES[provider]
    if name not in session.get_providers():
        raise ProviderUnavailableError(f"The {provider} provider did not start on this machine.")
    if provider != "cuda":
        return
    strayed = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != name
        for node in part.get_nodes()
    } & HEAVY_OPS
    if strayed:
        raise ProviderUnavailableError(
            f"On {provider}, these operators would run on the CPU: {', '.join(sorted(strayed))}."
        )

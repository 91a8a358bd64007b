"""`/openapi.json`: the API's description."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from service.gateway.cohorts import CohortOrder
from service.gateway.orders import RegisterOrder, WarpOrder
from service.gateway.rest.models import Promotion, RollBack
from service.gateway.rest.views import Problem, UploadOrder
from service.gateway.training import DatasetOrder, TrainOrder

VERSION = "1"
DESCRIPTION = """
Registers pairs of medical images: send a fixed and a moving volume, get the moving one warped onto
the fixed one, the displacement field, and a verdict on whether it worked.

`warped(x) = moving(x + ddf(x))`, x in fixed-grid world millimetres (RAS+); `ddf.nii.gz` stores the
vectors in LPS+, as ITK, ANTs and 3D Slicer read them.

Every route is reachable under `/v1` and at the root. Errors are `application/problem+json`
(RFC 9457) with a stable `code`; those that a retry may mend carry `Retry-After`.
"""
TAGS = [
    {"name": "register", "description": "Make registrations and use their transforms."},
    {"name": "cohorts", "description": "Many moving volumes to one fixed, as one order."},
    {"name": "train", "description": "Make models, and keep the data to make them of."},
    {"name": "uploads", "description": "Large files, in pieces, resumable."},
    {"name": "jobs", "description": "Follow, list, cancel, delete; fetch results."},
    {"name": "objects", "description": "Signed URLs of the built-in file store."},
    {"name": "models", "description": "What can be used for `options.model`."},
    {"name": "service", "description": "Limits, health, metrics."},
]
# Read by the routes themselves as they arrive, so FastAPI does not see them.
BODIES: tuple[type[BaseModel], ...] = (
    RegisterOrder,
    WarpOrder,
    CohortOrder,
    TrainOrder,
    DatasetOrder,
    UploadOrder,
    Promotion,
    RollBack,
    Problem,
)
OPEN_PATHS = ("/v1/healthz", "/v1/readyz", "/v1/metrics", "/v1/objects/{key}")


def describe(app: FastAPI) -> None:
    """Give the app its OpenAPI document, made when it is first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title="Warpline", version=VERSION, description=DESCRIPTION, routes=app.routes, tags=TAGS
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for model in BODIES:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _finish(operation, is_open=path in OPEN_PATHS)
    return document


def _finish(operation: dict[str, Any], *, is_open: bool) -> None:
    """Say which key an operation needs, and that a misfit is a problem, not FastAPI's own shape."""
    operation["security"] = [] if is_open else [{"bearer": []}, {"key": []}, {}]
    stock = operation["responses"].get("422", {}).get("content", {}).get("application/json")
    if stock is not None:
        operation["responses"]["422"] = {
            "description": "`validation-failed`: The request does not fit its schema.",
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }

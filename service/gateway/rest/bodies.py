"""The bodies of `/register` and `/warp` for OpenAPI; the routes read them as they arrive."""

from typing import Any

from pydantic import BaseModel

from service.gateway.orders import RegisterOrder, WarpOrder
from service.registration.options import RegisterOptions, WarpOptions
from service.registration.roles import REGISTER_ROLES, WARP_ROLES

FILE: dict[str, Any] = {"type": "string", "format": "binary"}
ABOUT = {
    "fixed": "The volume to register to. NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha), or "
    "DICOM: a file, or a zip of a series.",
    "moving": "The volume that is moved.",
    "fixed_labels": "Label map on the fixed grid; measures overlap.",
    "moving_labels": "Label map on the moving grid; comes back warped.",
    "fixed_mask": "Where the fixed image is to be matched.",
    "moving_mask": "Where the moving image is to be matched.",
    "fixed_points": "CSV of points in fixed space, RAS+ mm; come back moved.",
    "moving_points": "CSV of points in moving space; with fixed_points they measure the error.",
    "initial_transform": "4x4 matrix, RAS+ mm, fixed to moving, or an ITK affine.",
    "image": "A volume in the space of the job's moving image.",
    "labels": "A label map in the space of the job's moving image.",
    "points": "CSV of points, RAS+ mm, in the space that `from` names.",
}


def _form_schema(
    roles: tuple[str, ...],
    required: tuple[str, ...],
    order: type[BaseModel],
    options: type[BaseModel],
) -> dict[str, Any]:
    properties: dict[str, Any] = {role: FILE | {"description": ABOUT[role]} for role in roles}
    for model in (order, options):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        properties |= {k: v for k, v in schema["properties"].items() if k not in properties}
    properties.pop("inputs")
    properties["options"] = {
        "type": "string",
        "contentMediaType": "application/json",
        "description": "All options as one JSON object; each may also be a field of its own.",
    }
    return {"type": "object", "properties": properties, "required": list(required)}


def _body(form: dict[str, Any], order: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{order.__name__}"},
                    "example": example,
                },
            },
        }
    }


REGISTER_BODY = _body(
    _form_schema(REGISTER_ROLES, ("fixed", "moving"), RegisterOrder, RegisterOptions),
    RegisterOrder,
    {
        "inputs": {
            "fixed": {"upload_id": "6f1f0c1e-54a9-4d0c-9d5f-0d4f4f0e7c11"},
            "moving": {"url": "https://pacs-export.example.org/objects/8841.nii.gz"},
        },
        "options": {"initialise": "affine", "refine": "fast"},
        "queue": "batch",
    },
)
WARP_BODY = _body(
    _form_schema(WARP_ROLES, ("job_id",), WarpOrder, WarpOptions),
    WarpOrder,
    {
        "job_id": "1f0c6f1e-54a9-4d0c-9d5f-0d4f4f0e7c11",
        "inputs": {"points": {"upload_id": "6f1f0c1e-54a9-4d0c-9d5f-0d4f4f0e7c11"}},
        "from": "fixed",
    },
)

"""Configuration to functions: each kind is there, with its options, and gives a derivative."""

import pytest
from pydantic import ValidationError

torch = pytest.importorskip("torch")

from trainer.config.losses import LossesConfig  # noqa: E402
from trainer.losses.build import FIELD, IMAGE, LABEL, build_losses  # noqa: E402

KINDS = {"image": IMAGE, "label": LABEL, "field": FIELD, "points": {"distance": None}}
EVERYTHING = {
    group: [{"kind": kind, "weight": 2.0} for kind in kinds] for group, kinds in KINDS.items()
}


@pytest.mark.parametrize("size", [(12, 10, 8), (12, 10)])
def test_every_kind_gives_a_finite_value_and_derivative(size):
    ndim = len(size)
    torch.manual_seed(0)
    losses = build_losses(LossesConfig.model_validate(EVERYTHING), (1.0, 2.0, 0.5)[:ndim])
    images = torch.rand(2, 1, *size), torch.rand(2, 1, *size, requires_grad=True)
    u = torch.randn(2, ndim, *size, requires_grad=True)
    points = [torch.rand(2, 4, ndim) * 8 for _ in range(2)]
    inputs = {"image": images, "label": images, "points": (u, *points), "field": (u,)}
    assert {term.category for term in losses.terms} == set(KINDS)
    for term in losses.terms:
        given = (u, -u) if term.needs_reverse else inputs[term.category]
        given = (u, u.detach() + 1, images[0]) if term.needs_truth else given
        value = term.fn(*given)
        (slope,) = torch.autograd.grad(value, next(x for x in given if x.requires_grad))
        assert value.shape == ()
        assert torch.isfinite(value)
        assert torch.isfinite(slope).all()
        assert slope.any(), term.name


def test_a_weight_of_zero_is_left_out_and_names_are_unique():
    config = LossesConfig.model_validate(
        {"image": [{"kind": "lncc"}, {"kind": "lncc", "window": 5}, {"kind": "ssd", "weight": 0}]}
    )
    assert [term.name for term in build_losses(config, (1, 1, 1)).terms] == ["lncc", "lncc-2"]


def test_a_velocity_is_told_apart_and_takes_the_spacing_of_its_cells():
    config = LossesConfig.model_validate(
        {"field": [{"kind": "bending", "on": "velocity"}, {"kind": "bending"}]}
    )
    on_velocity, on_displacement = build_losses(config, (1, 1)).terms
    u = torch.randn(1, 2, 8, 8)
    assert (on_velocity.on, on_displacement.on) == ("velocity", "displacement")
    cells = on_velocity.fn(u / 2, spacing_mm=(2, 2))
    torch.testing.assert_close(16 * cells, on_displacement.fn(u))


def test_scales_in_mm_follow_the_spacing():
    def value(unit, scale, spacing):
        term = {"kind": "dice", "scales": [scale], "scale_unit": unit}
        losses = build_losses(LossesConfig.model_validate({"label": [term]}), spacing)
        torch.manual_seed(1)
        return losses.terms[0].fn(torch.rand(1, 1, 9, 9), torch.rand(1, 1, 9, 9), None)

    torch.testing.assert_close(value("mm", 4.0, (2.0, 2.0)), value("voxel", 2.0, (1.0, 1.0)))
    assert value("mm", 4.0, (2.0, 1.0)) != value("voxel", 2.0, (1.0, 1.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": [{"kind": "lpips"}]},
        {"image": [{"kind": "lncc", "window": 8}]},
        {"image": [{"kind": "ssd", "weight": -1}]},
        {"label": [{"kind": "dice", "background_weight": 2}]},
        {"label": [{"kind": "dice", "scales": [-1]}]},
        {"field": [{"kind": "gradient", "norm": "l3"}]},
        {"points": [{"kind": "distance", "unit": "voxel"}]},
    ],
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        LossesConfig.model_validate(wrong)


def test_every_option_has_a_meaning():
    definitions = LossesConfig.model_json_schema()["$defs"]
    assert all(
        option.get("description")
        for kind in definitions.values()
        for option in kind["properties"].values()
    )

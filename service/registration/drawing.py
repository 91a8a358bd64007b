"""The pictures of one registration, drawn from what is delivered."""

from service.registration.pair import Pair
from service.registration.pictures import Pictures, Scene, draw_pictures, overlay_picture
from service.registration.products import Products
from service.registration.regularity import Regularity


def drawn(pair: Pair, products: Products, shape: Regularity) -> tuple[Pictures, bytes]:
    """The result page's pictures, and the overlay as PNG."""
    scene = _scene(pair, products, shape)
    return draw_pictures(scene), overlay_picture(scene)


def _scene(pair: Pair, products: Products, shape: Regularity) -> Scene:
    seen = pair.moving_tempering
    labels, before, after = pair.fixed_labels, products.labels_before, products.warped_labels
    return Scene(
        fixed=pair.fixed_tempering.apply(pair.fixed),
        before=seen.apply(products.before).data,
        warped=seen.apply(products.warped).data,
        displacement_mm=products.ddf.vectors_mm,
        jacobian=shape.determinants.data,
        affine=products.affine.matrix,
        fixed_labels=None if labels is None else labels.data,
        labels_before=None if before is None else before.data,
        warped_labels=None if after is None else after.data,
    )

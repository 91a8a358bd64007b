"""The pictures of one registration, drawn from what is delivered."""

from concurrent.futures import Future

from service.registration.baseline import Baseline
from service.registration.page_gallery import gallery
from service.registration.pictures import Scene, draw_pictures, overlay_picture
from service.registration.products import Products
from service.registration.regularity import Regularity


def drawn(baseline: Baseline, products: Products, shape: Future[Regularity]) -> tuple[bytes, bytes]:
    """The result page's gallery, and the overlay as PNG; `shape` is waited for last."""
    scene = _scene(baseline, products, shape)
    return gallery(draw_pictures(scene)), overlay_picture(scene)


def _scene(baseline: Baseline, products: Products, shape: Future[Regularity]) -> Scene:
    pair, as_sent = baseline.pair, baseline.as_sent
    labels, before, after = pair.fixed_labels, as_sent.labels, products.warped_labels
    return Scene(
        fixed=baseline.fixed.image,
        before=as_sent.image.data,
        warped=baseline.seen(products.warped).data,
        displacement_mm=products.ddf.vectors_mm,
        jacobian=lambda: shape.result().determinants.data,
        affine=products.affine.matrix,
        fixed_labels=None if labels is None else labels.data,
        labels_before=None if before is None else before.data,
        warped_labels=None if after is None else after.data,
    )

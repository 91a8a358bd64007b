"""What the files of a registration are called, the same on every face. Light: no imports."""

IMAGE_ROLES = ("fixed", "moving")
LABEL_ROLES = ("fixed_labels", "moving_labels", "fixed_mask", "moving_mask")
POINT_ROLES = ("fixed_points", "moving_points")
TRANSFORM_ROLE = "initial_transform"
REGISTER_ROLES = (*IMAGE_ROLES, *LABEL_ROLES, *POINT_ROLES, TRANSFORM_ROLE)

# What can be carried over by the transform of an earlier registration.
WARP_ROLES = ("image", "labels", "points")

"""Cases from folders of files, in DeepReg's layout; files belong together by name."""

from pathlib import Path

from trainer.config.data import DataConfig
from trainer.data.cases import KINDS, Case, Index, Kind, Problems, Source
from trainer.data.inside import POINT_ENDS, VOLUME_ENDS, files_by_stem, inside

Files = dict[Kind, dict[str, Path]]


def wanted_kinds(config: DataConfig) -> dict[Kind, str]:
    """How much each kind is wanted: none, optional or required."""
    return {
        "image": "required",
        "labels": config.labels,
        "points": config.points,
        "mask": config.masks,
    }


def read_folder(root: Path, name: str, config: DataConfig, problems: Problems) -> Index:
    """The cases of one folder of a split.

    paired: `fixed_images/` and `moving_images/` with files of the same names, and the like for
    labels, points and masks. unpaired: `images/` and so on. grouped: the same with a folder for
    each group in `images/`.
    """
    folder = inside(root, name, problems)
    if folder is None:
        return Index(())
    if not folder.is_dir():
        problems.add(name, "This is not a folder.")
        return Index(())
    if config.pairing == "paired":
        return _paired(root, folder, config, problems)
    names = config.folders
    places: dict[Kind, str] = {
        "image": names.images,
        "labels": names.labels,
        "points": names.points,
        "mask": names.masks,
    }
    if config.pairing == "unpaired":
        files = _files(root, folder, places, config, problems)
        return Index(tuple(_cases(root, files, config, problems, group=None)))
    return _grouped(root, folder, places, config, problems)


def _grouped(
    root: Path, folder: Path, places: dict[Kind, str], config: DataConfig, problems: Problems
) -> Index:
    images = folder / places["image"]
    if not images.is_dir():
        problems.add(images.relative_to(root).as_posix(), "There is no such folder.")
        return Index(())
    cases: list[Case] = []
    for group in sorted(path for path in images.iterdir() if path.is_dir()):
        below = {kind: f"{place}/{group.name}" for kind, place in places.items()}
        files = _files(root, folder, below, config, problems)
        name = group.relative_to(root).as_posix()
        cases += _cases(root, files, config, problems, group=name)
    return Index(tuple(cases))


def _paired(root: Path, folder: Path, config: DataConfig, problems: Problems) -> Index:
    names = config.folders
    fixed_places: dict[Kind, str] = {
        "image": names.fixed_images,
        "labels": names.fixed_labels,
        "points": names.fixed_points,
        "mask": names.fixed_masks,
    }
    moving_places: dict[Kind, str] = {
        "image": names.moving_images,
        "labels": names.moving_labels,
        "points": names.moving_points,
        "mask": names.moving_masks,
    }
    fixed = _files(root, folder, fixed_places, config, problems)
    moving = _files(root, folder, moving_places, config, problems)
    for lonely in sorted(set(fixed["image"]) ^ set(moving["image"])):
        path = fixed["image"].get(lonely) or moving["image"][lonely]
        role = "moving" if lonely in fixed["image"] else "fixed"
        problems.add(_name(root, path), f"The {role} image of the same name is missing.")
    both = sorted(set(fixed["image"]) & set(moving["image"]))
    cases: list[Case] = []
    for stem in both:
        group = f"{folder.relative_to(root).as_posix()}/{stem}"
        for files in (fixed, moving):
            cases.append(_case(root, files, config, problems, stem=stem, group=group))
    for files in (fixed, moving):
        _report_orphans(root, files, problems)
    return Index(tuple(cases), tuple((n, n + 1) for n in range(0, len(cases), 2)))


def _files(
    root: Path, folder: Path, places: dict[Kind, str], config: DataConfig, problems: Problems
) -> Files:
    wanted, found = wanted_kinds(config), Files()
    for kind in KINDS:
        found[kind] = {}
        place = folder / places[kind]
        if wanted[kind] == "none" or (not place.exists() and kind != "image"):
            continue
        name = place.relative_to(root).as_posix()
        if inside(root, name, problems) is not None:
            ends = POINT_ENDS if kind == "points" else VOLUME_ENDS
            found[kind] = files_by_stem(place, root, ends, problems)
    images = (folder / places["image"]).relative_to(root).as_posix()
    if not found["image"] and not problems.has(images):
        problems.add(images, "There is no image in it.")
    return found


def _cases(
    root: Path, files: Files, config: DataConfig, problems: Problems, *, group: str | None
) -> list[Case]:
    found = [
        _case(root, files, config, problems, stem=stem, group=group) for stem in files["image"]
    ]
    _report_orphans(root, files, problems)
    return found


def _case(
    root: Path,
    files: Files,
    config: DataConfig,
    problems: Problems,
    *,
    stem: str,
    group: str | None,
) -> Case:
    sources: dict[Kind, Source] = {}
    image = files["image"][stem]
    for kind, wanted in wanted_kinds(config).items():
        if (path := files[kind].get(stem)) is not None:
            sources[kind] = Source(path, _name(root, path))
        elif wanted == "required":
            problems.add(_name(root, image), f"Its {kind} are required and missing.")
    name = _name(root, image)
    return Case(
        name,
        group or name,
        image=sources["image"],
        labels=sources.get("labels"),
        points=sources.get("points"),
        mask=sources.get("mask"),
    )


def _report_orphans(root: Path, files: Files, problems: Problems) -> None:
    """Labels, points and masks without an image."""
    for kind in KINDS[1:]:
        for stem in sorted(set(files[kind]) - set(files["image"])):
            problems.add(_name(root, files[kind][stem]), "The image of the same name is missing.")


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()

"""The systems by name, and how each is started."""

from dataclasses import dataclass

HERE = "benchmarks.comparison.systems"


@dataclass(frozen=True)
class System:
    """One way to register a pair.

    `builds` names a function, `module:function`, that is called with `arguments` in the process of
    the system and gives what registers one pair. `of_ours` runs in Warpline's Python, others may
    have another. `stays` keeps the process for the next pair and registers the first one before
    anything is timed; the others are started for each pair, and their start is not timed.
    """

    name: str
    builds: str
    arguments: tuple[str, ...] = ()
    package: str | None = None
    of_ours: bool = False
    stays: bool = False
    label: str | None = None

    @property
    def title(self) -> str:
        return self.label or self.name


def _ours(name: str, function: str, *arguments: str, label: str, stays: bool = True) -> System:
    builds = f"{HERE}.ours:{function}"
    return System(name, builds, arguments, of_ours=True, stays=stays, label=label)


def _peer(name: str, builds: str, *arguments: str, package: str, label: str) -> System:
    return System(name, f"{HERE}.{builds}", arguments, package=package, label=label)


ANTS, GREEDY = {"package": "antspyx"}, {"package": "picsl_greedy"}

SYSTEMS = {
    system.name: system
    for system in (
        System("identity", f"{HERE}.simplest:identity", of_ours=True, label="start"),
        _ours("warpline-affine", "affine", label="Warpline, affine alone"),
        _ours("warpline-none", "pipeline", "none", label="Warpline, `none`"),
        _ours("warpline", "pipeline", "fast", label="Warpline, default"),
        _ours("warpline-best", "pipeline", "best", label="Warpline, `best`"),
        _ours("warpline-cli", "command", label="Warpline, new process", stays=False),
        _peer("ants-affine", "ants_syn:kind", "Affine", label="ANTs, affine alone", **ANTS),
        _peer("ants-syn", "ants_syn:kind", "SyN", label="ANTs SyN", **ANTS),
        _peer("ants-syn-cli", "ants_syn:new_process", label="ANTs SyN, new process", **ANTS),
        _peer(
            "ants-synquick",
            "ants_syn:kind",
            "antsRegistrationSyNQuick[s]",
            label="ANTs SyNQuick",
            **ANTS,
        ),
        _peer("ants-syncc", "ants_syn:kind", "SyNCC", label="ANTs SyNCC", **ANTS),
        _peer("ants-syn-cc", "ants_syn:by_correlation", label="ANTs SyN, correlation", **ANTS),
        _peer("greedy-affine", "greedy:affine_alone", label="greedy, affine alone", **GREEDY),
        _peer("greedy", "greedy:deformable", label="greedy", **GREEDY),
        _peer(
            "greedy-one-level",
            "greedy:deformable",
            "100",
            label="greedy, one level",
            **GREEDY,
        ),
        _peer("elastix", "elastix:defaults", package="itk-elastix", label="elastix"),
        _peer(
            "convexadam",
            "convex_adam:after_affine",
            package="convexAdam",
            label="ConvexAdam",
        ),
        _peer("fireants", "fire_ants:affine_and_greedy", package="fireants", label="FireANTs, CPU"),
        System(
            "voxelmorph",
            f"{HERE}.voxelmorph_forward:forward",
            package="voxelmorph",
            stays=True,
            label="VoxelMorph-torch, untrained, forward alone",
        ),
    )
}


def chosen(names: str) -> list[System]:
    """The systems of a list like `warpline,ants-syn,warpline`; one may come several times.

    Raises:
        SystemExit: If there is no such system.
    """
    unknown = [name for name in names.split(",") if name not in SYSTEMS]
    if unknown:
        raise SystemExit(f"No system {', '.join(unknown)}; there are {', '.join(SYSTEMS)}.")
    return [SYSTEMS[name] for name in names.split(",")]

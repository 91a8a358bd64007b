"""Compiled loops over volumes and fields; `launch` says how they are compiled and started.

What the compiler needs to take several voxels at once, which a profile alone does not show:
positions as floats of 32-bit counts (of 64-bit ones only AVX-512 makes floats), all components of a
vector read before the first is written, where a sample lies found in one loop and its value in the
next, neighbours along k used as a pair, and slices of one line with a stride that is known.
"""

"""How often the job table is asked for somebody who waits."""

FIRST_PAUSE_S = 0.05
# Of the time since the last news: so what is told late is late by a thirtieth of it, on average.
SHARE = 1 / 16


def pause_s(silent_s: float, longest_s: float) -> float:
    """Until the next look: a small pair ends within a second, and many jobs wait for long.

    Args:
        silent_s: For how long nothing has happened.
        longest_s: The longest pause.
    """
    return min(max(FIRST_PAUSE_S, silent_s * SHARE), longest_s)

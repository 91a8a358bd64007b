"""How each system is called. Each runs in a process of its own, some in another Python.

A module here needs nothing of Warpline but `pair.py`, and its own library only inside the function
that `registry.py` names: that function imports it and gives what registers one pair.
"""

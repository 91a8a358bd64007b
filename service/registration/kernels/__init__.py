"""Compiled loops over volumes and fields; `launch` says how they are compiled and started."""

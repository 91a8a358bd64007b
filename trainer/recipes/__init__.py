"""Recipes: configurations that train on public data as they are."""

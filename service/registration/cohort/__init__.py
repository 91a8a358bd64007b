"""Many images registered to one: their figures in one table, and one page to look through."""

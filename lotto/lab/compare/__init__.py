"""Room 07: the cells of a grid beside one another. Read tables, then figures."""

"""Room 04: curvature discarded and left. Read products, then tables, then figures."""

"""Room 03: paths between children, and barriers. Read products, then tables, then figures."""

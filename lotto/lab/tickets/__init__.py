"""Room 02: masks found round by round, and the nets trained from them. Read products, then tables, then figures."""

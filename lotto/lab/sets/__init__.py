"""Room 01: small sets, how they are made and what they are worth. Read products, then tables, then figures."""

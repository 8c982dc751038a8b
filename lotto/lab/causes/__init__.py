"""Room 06: what stability is owed to. Read products, then tables, then figures."""

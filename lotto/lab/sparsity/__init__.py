"""Room 05: how far each method goes. Read products, then tables, then figures."""

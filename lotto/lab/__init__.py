"""The study: what is compared, what is kept, tables, figures and claims."""

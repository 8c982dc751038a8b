"""The study: what is compared, where it is kept, and how it is shown."""

"""Explorers: figures with controls, live in a kernel and in pages without one. They read what is stored; only
`whatif` computes, when it is told to."""

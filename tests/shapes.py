"""The type checker behind jaxtyping's hook: beartype, an int being good where a float is asked."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))

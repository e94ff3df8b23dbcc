"""Formal proofs of the RTL: `make formal`, or `python -m formal [NAME]`.

A proof is a function in `prove_<topic>.py` that wraps a module of `hdl/` as it is; `proof.py` says
how it is declared. `docs/formal.md` says what is proven and for which sizes.
"""

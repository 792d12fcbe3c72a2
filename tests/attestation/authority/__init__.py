"""Fake vendors: complete chains of AMD, Intel and NVIDIA with roots of their own, to build evidence, valid or broken in one place."""

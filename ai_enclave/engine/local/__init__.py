"""Local weights: any Hugging Face directory of a known architecture, in plain PyTorch, with continuous batching.

``engine`` is the shell that others see; ``worker`` is its thread; ``scheduler``, ``ledger``, ``grammar`` and ``packing`` decide and
know no torch; ``runner`` does one step on the device with ``model``, ``blocks``, ``sampler`` and ``transfers``. ``files``, ``config``,
``checkpoint`` and ``loading`` say what may be loaded.
"""

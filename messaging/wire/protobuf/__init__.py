"""Generated protobuf classes; ``python3 dev.py protobuf`` makes them anew from the ``.proto`` files beside them."""

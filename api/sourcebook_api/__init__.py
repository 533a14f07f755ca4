"""The HTTP surface and the command line. It wires the active plugins together and imports none of them."""

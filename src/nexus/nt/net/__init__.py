"""Sockets: the AFD device over the host's sockets, under the rules of `--allow-net`."""

"""The commands that need no torch: one file each, with the name of its command. edgepose.cli calls them."""

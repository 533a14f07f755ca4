"""What goes over the wire: bodies forbid what they do not know, answers list what they promise."""

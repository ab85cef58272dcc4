"""The HTTP face (PS3.18): translate, call, answer."""

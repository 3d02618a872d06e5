"""Servers embedded in Python, for `syncer demo` and the tests: no account, no cloud, no root."""

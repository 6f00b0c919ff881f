"""One command per file: `NAME.py` defines a function `NAME` made with `dvx.app.command`.

A file added here is a command; nothing else has to be edited. Python keywords take a trailing
underscore (`import_.py` is `dvx import`), and `-` in a command's name is `_` in the file's.
"""

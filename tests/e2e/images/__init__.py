"""Our images, made without a container engine: the same file systems as the Dockerfiles make, by the same script.

room.py     runs the script on a Debian of its own
archive.py  layers, and what `docker save` writes
recipes.py  which image has what in it
build.py    makes them all: `python tests/e2e/images/build.py`
"""

"""The sensors. Each tick asks MongoDB and the disks what is missing, and requests just that.

No cursor and no memory: a tick after any crash requests what a tick before it would have.
"""

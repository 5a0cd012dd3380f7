"""A fault run over the whole product on real parts, with a judge that asks none of its code.

    make chaos SEED=1 MINUTES=20 FILES=150

`plan` draws what the instruments acquire and which fault comes when, all from one seed.
`instruments` writes the files and notes what they hold, `faults` does the harm and undoes it,
`facts` reads disks, MongoDB and the notes in the end, and `judge` says what is wrong by these
facts alone.
"""

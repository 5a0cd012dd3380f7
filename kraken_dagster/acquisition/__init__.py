"""Stage 1, an instrument's folder: what stands there, what is new, what is finished."""

"""The data layer on MongoDB. Nothing else in the project speaks to the database.

One module per collection; `connection.py` puts them together and declares the indexes.
"""

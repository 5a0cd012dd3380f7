"""The data layer on MongoDB. Nothing else in the project speaks to the database.

One module for each collection; `connection` puts them together and declares the indexes.
"""

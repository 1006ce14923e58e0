"""Public data sets in their published formats, turned into the data contract (`features/contract.py`).

An importer reads a text file once, checks every cell that it uses, and keeps what the contract needs by day; then it
writes the tables, one day after the other. Nothing is held in memory as a whole. What is finished is kept beside the
output until all of it is, so a killed import goes on where it was, and the output is whole or absent.
"""

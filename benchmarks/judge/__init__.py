"""The judges' own benchmark: rankings of known quality, and what each protocol makes of them.

dataset.py   a world -> the judge's arrays, and the truth of their touches
zoo.py       rankings of clusters whose true area is known
trial.py     one data set: every pair of rankings under every protocol
summary.py   rates over data sets, with intervals
report.py    Markdown
"""

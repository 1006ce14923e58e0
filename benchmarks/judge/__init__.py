"""The judges' own benchmark: rankings of known quality, and what each protocol makes of them.

dataset.py   a world -> the judge's arrays, and the truth of their touches
zoo.py       rankings of clusters whose true area is known
candidate.py what the battery reads of a candidate, of a sound one and of a broken one
cases.py     data sets on which each test of the battery must speak, or keep silent
trial.py     one data set: every pair of rankings under every protocol, and the battery
summary.py   rates over data sets, with intervals
targets.py   what is asked of them
report.py    Markdown
"""

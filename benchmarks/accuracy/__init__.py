"""`alm-mta benchmark accuracy`: every method on every world, against the known truth.

unit.py      what is computed, a world, users and a seed, and where its records lie
dataset.py   a unit's journeys, their truth, and the same world under randomised exposure
metrics.py   a method's scores against that truth
runner.py    units over a pool of processes; progress.py tells how far they are
summary.py   records -> means over seeds, paired differences, who wins or ties
result.py    what is checked in: JSON, with report.py Markdown and with figures.py SVG
cli.py       the command
"""

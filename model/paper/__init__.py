"""ALM-MTA as published (ICLR 2026, arXiv 2605.08881), re-implemented: kept so that its ablation can be replayed.

The product's own model is `model.front_door`, which measures the mediator by responses instead of by the proxy.
"""

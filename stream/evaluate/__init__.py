"""Evaluation of the production models on recorded data, beside standing baselines in the same run.

``recommend`` and ``click`` are test-then-train (Vinagre, Jorge, Gama, arXiv 1504.08175): every event is
predicted before anybody learns it. ``offers`` replays a log of decisions and estimates off-policy.
What each figure means is in ``docs/evaluation.md``.
"""

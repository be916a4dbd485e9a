"""Standing baselines: small, well known, tuned as published, and run on the same events as our models."""

POPULARITY_DAYS = (1, 7, 30)
POPULARITY = tuple(f"decayed_popularity_{days}d" for days in POPULARITY_DAYS)
RANKING = (*POPULARITY, "item_knn", "isgd", "river_biased_mf")
"""Names of the baselines of recommendations."""
CLICK = ("base_rate", "ftrl", "river_logistic_regression", "vowpal_wabbit")
"""Names of the baselines of the click model."""

"""Standing baselines: small, well known, tuned as published, and run on the same events as our models."""

POPULARITY = {
    "decayed_popularity_2h": 2 / 24,
    "decayed_popularity_1d": 1,
    "decayed_popularity_7d": 7,
    "decayed_popularity_30d": 30,
}
"""Half-lives in days, from that of news to that of what people always need."""
RANKING = (*POPULARITY, "item_knn", "isgd", "river_biased_mf")
"""Names of the baselines of recommendations."""
CLICK = ("base_rate", "ftrl", "river_logistic_regression", "vowpal_wabbit")
"""Names of the baselines of the click model."""

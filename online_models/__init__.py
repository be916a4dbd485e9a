"""Online learners: they know nothing of Kafka, users' consent or JSON."""

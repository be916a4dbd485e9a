"""The impure half: Kafka, Faust, metrics, logs. The only importer of faust, aiokafka and Prometheus."""

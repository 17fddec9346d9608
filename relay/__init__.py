"""The inter-centre relay: sealed, validated intelligence messages between coordination centres over RabbitMQ."""

__version__ = "0.1.0"

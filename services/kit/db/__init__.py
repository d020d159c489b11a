"""PostgreSQL: pool, transactions, pipelines, migrations, repair of stored messages."""

"""Everything on record: `Store` writes, `Reader` reads, `verify` proves, `purge` ends; `models` has the tables."""

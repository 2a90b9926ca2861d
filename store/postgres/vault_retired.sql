-- The IDs of keys that nothing is kept under any more. A write of a key looks
-- here under a lock that is shared, an advisory one of the ID's bits; who adds a
-- row has that lock for itself.
CREATE TABLE @vault_retired (kek bytea PRIMARY KEY);

-- The keys of sealed jobs, each encrypted under a key that the server never
-- has. "@" stands for the schema.
CREATE TABLE @vault_records (
  job    uuid   NOT NULL, -- zeros: a key of the vault itself
  header bytea  NOT NULL, -- SHA-256 of the job's header, or the key's ID
  at     bigint NOT NULL, -- microseconds since 1970
  sealed bytea  NOT NULL,
  PRIMARY KEY (job, header)
);
ALTER TABLE @vault_records ALTER COLUMN sealed SET STORAGE PLAIN;

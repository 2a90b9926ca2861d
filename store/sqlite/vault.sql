-- Records stay where they were first written, and every one is as long as every
-- other: to overwrite one in place is to leave no copy of it. So no column may
-- be NULL, and none may hold a number that is stored in more or fewer bytes.
CREATE TABLE records (
  slot   INTEGER PRIMARY KEY,
  used   INTEGER NOT NULL CHECK (used IN (0, 1)), -- 0: all that follows is zeros
  job    BLOB    NOT NULL CHECK (length(job) = 16),
  header BLOB    NOT NULL CHECK (length(header) = 32),
  at     BLOB    NOT NULL CHECK (length(at) = 8),       -- microseconds since 1970, big-endian
  sealed BLOB    NOT NULL CHECK (length(sealed) = 191)  -- its length, then it, then zeros
);
CREATE UNIQUE INDEX records_named ON records (job, header) WHERE used = 1;
CREATE INDEX records_free ON records (slot) WHERE used = 0;

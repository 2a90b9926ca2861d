-- The queue's tables. Instants are microseconds since the Unix epoch, zero for
-- none, and durations microseconds: the view job_list shows them as times.
-- "@" stands for the schema.

-- A job's changing part, one narrow row. What never changes comes first, so
-- that an update within a page logs only what comes after it: hence the room
-- in each page. Lanes are indexed by the first half of their SHA-256, since
-- their text may be longer than an index entry. lease_until is in no index, so
-- that renewals are heap-only.
CREATE TABLE @jobs (
  id            uuid    PRIMARY KEY,
  created_at    bigint  NOT NULL,
  deadline      bigint  NOT NULL,
  queue_time    bigint  NOT NULL,
  key_offset    bigint  NOT NULL,
  price         bigint  NOT NULL, -- millionths
  chars         bigint  NOT NULL,
  max_attempts  integer NOT NULL,
  custody       text    NOT NULL,
  input_hash    bytea   NOT NULL,
  account       text    NOT NULL COLLATE "C",
  lane          text    NOT NULL COLLATE "C",
  lane_id       uuid    NOT NULL,
  version       bigint  NOT NULL,
  key           bigint  NOT NULL,
  ready_at      bigint  NOT NULL,
  exclude_until bigint  NOT NULL,
  queue_until   bigint  NOT NULL,
  claimed_at    bigint  NOT NULL,
  limit_at      bigint  NOT NULL,
  lease_for     bigint  NOT NULL,
  lease_until   bigint  NOT NULL,
  ended_at      bigint  NOT NULL,
  acked_at      bigint  NOT NULL,
  due_at        bigint  NOT NULL,
  attempt       integer NOT NULL,
  faults        integer NOT NULL,
  state         smallint NOT NULL,
  ticket        smallint NOT NULL,
  notify        boolean NOT NULL, -- has a webhook
  purged        boolean NOT NULL,
  forgotten     boolean NOT NULL, -- spec, result and log are gone and stay so
  change        uuid    NOT NULL,
  claim         uuid,
  worker        bytea,
  last_worker   bytea,
  reason        text    NOT NULL,
  log           bytea   NOT NULL  -- the entries that came with the job's own changes, packed
) WITH (fillfactor = 70);
CREATE INDEX jobs_queued  ON @jobs (lane_id, key, id) WHERE state = 2;
CREATE INDEX jobs_running ON @jobs (id) WHERE state = 3;
CREATE INDEX jobs_due     ON @jobs (due_at, id) WHERE due_at <> 0;

-- What never changes of a job: written with the submit, read with the claim.
CREATE TABLE @specs (
  id            uuid     PRIMARY KEY,
  kind          text     NOT NULL,
  model         text     NOT NULL,
  custody       text     NOT NULL,
  comparator    text     NOT NULL,
  labels        text     NOT NULL,
  chars         bigint   NOT NULL,
  vram          bigint   NOT NULL,
  privacy       smallint NOT NULL,
  policy        smallint NOT NULL,
  priority      smallint NOT NULL,
  hardware_tier smallint NOT NULL,
  tier          smallint NOT NULL,
  header        bytea,
  payload       bytea,   -- ciphertext when sealed
  client_key    bytea,
  wraps         json,
  signature     bytea,
  webhook       text     NOT NULL
);

-- What a job ends with: its result and receipt.
CREATE TABLE @done (
  id           uuid     PRIMARY KEY,
  claim        uuid     NOT NULL,
  accepted_at  bigint   NOT NULL,
  exit_status  integer  NOT NULL,
  verification text     NOT NULL,
  worker       bytea    NOT NULL,
  digest       bytea    NOT NULL,
  result       bytea,   -- ciphertext when sealed
  record       bytea,   -- the worker's signed envelope, as received
  acceptance   json,
  comparison   json
);

-- What workers reported, and what else did not come with the job's own change.
CREATE TABLE @reports (
  job     uuid     NOT NULL,
  seq     bigint   NOT NULL,
  at      bigint   NOT NULL,
  attempt integer  NOT NULL,
  event   smallint NOT NULL,
  state   smallint NOT NULL,
  report  smallint NOT NULL,
  worker  bytea,
  reason  text     NOT NULL,
  data    bytea,
  PRIMARY KEY (job, seq)
);

-- What jobs still have to do to other records.
CREATE TABLE @effects (
  arrived bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job     uuid     NOT NULL,
  seq     bigint   NOT NULL,
  kind    smallint NOT NULL,
  target  text     NOT NULL,
  amount  bigint   NOT NULL,
  reason  text     NOT NULL,
  at      bigint   NOT NULL,
  UNIQUE (job, seq)
);

-- Workers, pairings, pauses.
CREATE TABLE @docs (
  kind    text   NOT NULL COLLATE "C",
  key     text   NOT NULL COLLATE "C",
  version bigint NOT NULL,
  body    json   NOT NULL,
  PRIMARY KEY (kind, key)
);

CREATE TABLE @counters (
  name  text   PRIMARY KEY COLLATE "C",
  value bigint NOT NULL
);

-- For people: jobs in words and times.
CREATE VIEW @job_list AS
SELECT j.id, s.kind AS type, s.model,
  (ARRAY['none', 'blocked', 'queued', 'running', 'validating', 'completed', 'failed', 'cancelled', 'expired'])[j.state + 1] AS status,
  j.account AS user_id, j.attempt, j.reason, j.price / 1000000.0 AS price, encode(j.worker, 'hex') AS worker_pubkey,
  to_timestamp(nullif(j.created_at, 0) / 1000000.0) AS created_at,
  to_timestamp(nullif(j.claimed_at, 0) / 1000000.0) AS claimed_at,
  to_timestamp(nullif(j.ended_at, 0) / 1000000.0) AS completed_at,
  to_timestamp(nullif(j.acked_at, 0) / 1000000.0) AS acknowledged_at,
  CASE WHEN j.state = 3 THEN to_timestamp(j.lease_until / 1000000.0) END AS lease_until
FROM @jobs j LEFT JOIN @specs s ON s.id = j.id;

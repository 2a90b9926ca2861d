-- Views for people, named as those of the store on SQLite, with words for
-- numbers and text for bytes. What they read is not written: packed logs and
-- signed records are not for SQL.

-- Columns keep their places, so that what others have built on the view stays.
CREATE OR REPLACE VIEW @job_list AS
SELECT j.id, s.kind AS type, s.model,
  (ARRAY['none', 'blocked', 'queued', 'running', 'validating', 'completed', 'failed', 'cancelled', 'expired'])[j.state + 1] AS status,
  j.account AS user_id, j.attempt, j.reason, trim_scale(j.price / 1000000.0) AS price, encode(j.worker, 'hex') AS worker_pubkey,
  to_timestamp(nullif(j.created_at, 0) / 1000000.0) AS created_at,
  to_timestamp(nullif(j.claimed_at, 0) / 1000000.0) AS claimed_at,
  to_timestamp(nullif(j.ended_at, 0) / 1000000.0) AS completed_at,
  to_timestamp(nullif(j.acked_at, 0) / 1000000.0) AS acknowledged_at,
  CASE WHEN j.state = 3 THEN to_timestamp(j.lease_until / 1000000.0) END AS lease_until,
  s.tier,
  (ARRAY['AUTO', 'FAST', 'CHEAP'])[s.policy + 1] AS policy,
  (ARRAY['PUBLIC', 'PRIVATE'])[s.privacy + 1] AS privacy_class
FROM @jobs j LEFT JOIN @specs s ON s.id = j.id;

CREATE VIEW @receipts AS
SELECT encode(digest, 'hex') AS id, id AS job_id, replace(claim::text, '-', '') AS claim_id, encode(worker, 'hex') AS provider_pubkey,
  exit_status, verification, verification <> 'unverified' AS verified,
  to_timestamp(accepted_at / 1000000.0) AS created_at
FROM @done WHERE record IS NOT NULL;

-- Of a job's log, what did not come with its own changes.
CREATE VIEW @events AS
SELECT job AS job_id, seq, to_timestamp(at / 1000000.0) AS at,
  (ARRAY['submit', 'unblock', 'claim', 'complete', 'validate', 'reject', 'fail', 'release', 'lease_lost', 'limit', 'expire', 'cancel',
    'acknowledge', 'purge', 'settle', 'report'])[event] AS event,
  (ARRAY['none', 'blocked', 'queued', 'running', 'validating', 'completed', 'failed', 'cancelled', 'expired'])[state + 1] AS state,
  attempt, encode(worker, 'hex') AS worker, reason,
  CASE WHEN event = 16 THEN (ARRAY['progress', 'log', 'part'])[report + 1] END AS report, data
FROM @reports;

-- The attempt that has each job, or ended it: those before it are in its log.
CREATE VIEW @attempts AS
SELECT id AS job_id, attempt, encode(worker, 'hex') AS worker, to_timestamp(claimed_at / 1000000.0) AS claimed_at
FROM @jobs WHERE claimed_at <> 0;

-- The key of a delivery has the time at which it is due: its minute, and the
-- microsecond in it (consign.OutboxKey).
CREATE VIEW @outbox AS
SELECT job AS job_id, (ARRAY['settle', 'refund', 'strike', 'shred'])[kind] AS kind, target,
  trim_scale(amount / 1000000.0) AS amount, reason, to_timestamp(at / 1000000.0) AS at,
  NULL::timestamptz AS due_at, NULL::integer AS tries
FROM @effects
UNION ALL
SELECT (w.body ->> 'job_id')::uuid, 'webhook', h.body ->> 'url', NULL, w.body ->> 'state',
  to_timestamp((w.body ->> 'since')::bigint / 1000000.0),
  to_timestamp(substr(w.key, 1, 20)::bigint * 60 + substr(w.key, 39, 8)::bigint / 1000000.0), (w.body ->> 'tries')::integer
FROM @docs w LEFT JOIN @docs h ON h.kind = 'webhook_url' AND h.key = (w.body ->> 'job_id') || '/' || (w.body ->> 'created')
WHERE w.kind = 'webhook';

CREATE VIEW @workers AS
SELECT key AS id, body ->> 'algorithm' AS algorithm, body ->> 'operator' AS operator,
  (body -> 'standing' ->> 'Strikes')::bigint AS strikes, body ->> 'reason' AS reason,
  to_timestamp((body ->> 'first_seen')::bigint / 1000000.0) AS first_seen, body
FROM @docs WHERE kind = 'worker';

-- A code that nobody has claimed is under its HMAC; the code itself is nowhere.
CREATE VIEW @trust_pairings AS
SELECT key AS id, body ->> 'account' AS user_id, body ->> 'worker_id' AS provider_pubkey, true AS claimed,
  NOT coalesce((body ->> 'pending')::boolean, false) AS confirmed, NULL::timestamptz AS expires_at
FROM @docs WHERE kind = 'pairing'
UNION ALL
SELECT key, body ->> 'account', NULL, false, false, to_timestamp((body ->> 'expires_at')::bigint / 1000000.0)
FROM @docs WHERE kind = 'pairing_code';

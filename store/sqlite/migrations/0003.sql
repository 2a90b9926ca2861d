-- Views alone: IDs as programs print them, times as text, prices in units.

DROP VIEW job_list;
CREATE VIEW job_list AS
SELECT lower(substr(hex(j.id), 1, 8) || '-' || substr(hex(j.id), 9, 4) || '-' || substr(hex(j.id), 13, 4) || '-'
		|| substr(hex(j.id), 17, 4) || '-' || substr(hex(j.id), 21)) AS id,
	s.kind AS type, s.model, s.tier,
	(SELECT name FROM names WHERE what = 'policy' AND code = s.policy) AS policy,
	(SELECT name FROM names WHERE what = 'privacy' AND code = s.privacy) AS privacy_class,
	j.account AS user_id,
	(SELECT name FROM names WHERE what = 'state' AND code = j.state) AS status,
	j.reason, j.attempt, nullif(lower(hex(j.worker)), '') AS worker_pubkey, j.price / 1000000.0 AS price,
	datetime(j.created_at / 1000000, 'unixepoch') AS created_at,
	datetime(nullif(j.claimed_at, 0) / 1000000, 'unixepoch') AS claimed_at,
	datetime(nullif(j.ended_at, 0) / 1000000, 'unixepoch') AS completed_at,
	datetime(nullif(j.acked_at, 0) / 1000000, 'unixepoch') AS acknowledged_at
FROM jobs j LEFT JOIN specs s USING (n);

-- A record is packed, and SQL cannot read it.
DROP VIEW receipts;
CREATE VIEW receipts AS
SELECT lower(hex(d.digest)) AS id,
	lower(substr(hex(j.id), 1, 8) || '-' || substr(hex(j.id), 9, 4) || '-' || substr(hex(j.id), 13, 4) || '-'
		|| substr(hex(j.id), 17, 4) || '-' || substr(hex(j.id), 21)) AS job_id,
	lower(hex(d.claim)) AS claim_id, lower(hex(d.worker)) AS provider_pubkey, d.exit_status, d.verification,
	d.verification <> 'unverified' AS verified,
	datetime(d.accepted_at / 1000000, 'unixepoch') AS created_at
FROM done d JOIN jobs j USING (n) WHERE d.record IS NOT NULL;

DROP VIEW attempts;
DROP VIEW events;
CREATE VIEW events AS
SELECT lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-'
		|| substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)) AS job_id,
	seq, strftime('%Y-%m-%d %H:%M:%f', at / 1000000.0, 'unixepoch') AS at,
	(SELECT name FROM names WHERE what = 'event' AND code = event) AS event,
	(SELECT name FROM names WHERE what = 'state' AND code = state) AS state,
	attempt, nullif(worker, '') AS worker, reason,
	CASE WHEN event = 16 THEN (SELECT name FROM names WHERE what = 'report' AND code = report) END AS report, data
FROM (
	SELECT p.id, e.value ->> 0 AS seq, e.value ->> 1 AS at, e.value ->> 2 AS event, e.value ->> 3 AS state,
		e.value ->> 4 AS attempt, e.value ->> 5 AS worker, e.value ->> 6 AS reason, 0 AS report, NULL AS data
	FROM (SELECT j.id, j.log || coalesce(d.log, '') AS log FROM jobs j LEFT JOIN done d USING (n)) p,
		json_each('[' || rtrim(p.log, char(44, 10)) || ']') e
	UNION ALL
	SELECT j.id, e.seq, e.at, e.event, e.state, e.attempt, lower(hex(e.worker)), e.reason, e.report, e.data
	FROM entries e JOIN jobs j USING (n)
);
CREATE VIEW attempts AS
SELECT job_id, attempt, worker, at AS claimed_at FROM events WHERE event = 'claim';

-- The key of a delivery has the time at which it is due: its minute, and the
-- microsecond in it (consign.OutboxKey).
DROP VIEW outbox;
CREATE VIEW outbox AS
SELECT lower(substr(hex(job), 1, 8) || '-' || substr(hex(job), 9, 4) || '-' || substr(hex(job), 13, 4) || '-'
		|| substr(hex(job), 17, 4) || '-' || substr(hex(job), 21)) AS job_id,
	(SELECT name FROM names WHERE what = 'effect' AND code = kind) AS kind,
	target, amount / 1000000.0 AS amount, reason, datetime(at / 1000000, 'unixepoch') AS at, NULL AS due_at, NULL AS tries
FROM effects
UNION ALL
SELECT w.body ->> '$.job_id', 'webhook', h.body ->> '$.url', NULL, w.body ->> '$.state',
	datetime((w.body ->> '$.since') / 1000000, 'unixepoch'),
	datetime(substr(w.key, 1, 20) * 60 + substr(w.key, 39, 8) / 1000000, 'unixepoch'), w.body ->> '$.tries'
FROM docs w LEFT JOIN docs h ON h.kind = 'webhook_url' AND h.key = (w.body ->> '$.job_id') || '/' || (w.body ->> '$.created')
WHERE w.kind = 'webhook';

DROP VIEW workers;
CREATE VIEW workers AS
SELECT key AS id, body ->> '$.algorithm' AS algorithm, body ->> '$.operator' AS operator,
	body ->> '$.standing.Strikes' AS strikes, body ->> '$.reason' AS reason,
	datetime((body ->> '$.first_seen') / 1000000, 'unixepoch') AS first_seen, body
FROM docs WHERE kind = 'worker';

-- A code that nobody has claimed is under its HMAC; the code itself is nowhere.
DROP VIEW trust_pairings;
CREATE VIEW trust_pairings AS
SELECT key AS id, body ->> '$.account' AS user_id, body ->> '$.worker_id' AS provider_pubkey, 1 AS claimed,
	coalesce(body ->> '$.pending', 0) = 0 AS confirmed, NULL AS expires_at
FROM docs WHERE kind = 'pairing'
UNION ALL
SELECT key, body ->> '$.account', NULL, 0, 0, datetime((body ->> '$.expires_at') / 1000000, 'unixepoch')
FROM docs WHERE kind = 'pairing_code';

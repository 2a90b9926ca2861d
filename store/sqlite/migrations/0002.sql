-- What a change with a result logs is written with the result, which is written
-- once: a job's own row, which is written often, stays short.
ALTER TABLE done ADD COLUMN log TEXT NOT NULL DEFAULT '';

-- When jobs that run are due is known in memory, with their leases.
DROP INDEX jobs_due;
CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at <> 0 AND state <> 3;

DROP VIEW attempts;
DROP VIEW events;
CREATE VIEW events AS
SELECT lower(hex(id)) AS job_id, seq, strftime('%Y-%m-%d %H:%M:%f', at / 1000000.0, 'unixepoch') AS at,
	(SELECT name FROM names WHERE what = 'event' AND code = event) AS event,
	(SELECT name FROM names WHERE what = 'state' AND code = state) AS state,
	attempt, worker, reason,
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

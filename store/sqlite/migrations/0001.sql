-- Times are microseconds since 1970 in UTC, and 0 is none; durations are
-- microseconds. Numbers that stand for words have them in the table names.

-- What changes of a job. Rows are in the order of arrival, so that jobs of one
-- age, which are claimed and end together, lie on the same pages.
CREATE TABLE jobs (
	n             INTEGER PRIMARY KEY,
	id            BLOB    NOT NULL UNIQUE,
	version       INTEGER NOT NULL,
	change_id     BLOB,
	state         INTEGER NOT NULL,
	account       TEXT    NOT NULL,
	lane          TEXT    NOT NULL,
	key_offset    INTEGER NOT NULL,
	custody       TEXT    NOT NULL,
	input_hash    BLOB,
	price         INTEGER NOT NULL, -- millionths
	created_at    INTEGER NOT NULL,
	deadline      INTEGER NOT NULL,
	queue_time    INTEGER NOT NULL,
	chars         INTEGER NOT NULL,
	notify        INTEGER NOT NULL,
	ticket        INTEGER NOT NULL,
	ready_at      INTEGER NOT NULL,
	key           INTEGER NOT NULL,
	last_worker   BLOB,
	exclude_until INTEGER NOT NULL,
	queue_until   INTEGER NOT NULL,
	attempt       INTEGER NOT NULL,
	max_attempts  INTEGER NOT NULL,
	faults        INTEGER NOT NULL,
	claim         BLOB,
	worker        BLOB,
	claimed_at    INTEGER NOT NULL,
	limit_at      INTEGER NOT NULL,
	lease_for     INTEGER NOT NULL,
	lease_until   INTEGER NOT NULL, -- as it was claimed: renewals are kept in memory
	ended_at      INTEGER NOT NULL,
	acked_at      INTEGER NOT NULL,
	purged        INTEGER NOT NULL,
	reason        TEXT    NOT NULL,
	due_at        INTEGER NOT NULL,
	forgotten     INTEGER NOT NULL DEFAULT 0, -- spec, done and log are gone and stay so
	log           TEXT    NOT NULL DEFAULT '' -- what its transitions logged; see the view events
);
CREATE INDEX jobs_queue ON jobs (lane, key, id) WHERE state = 2;
CREATE INDEX jobs_running ON jobs (n) WHERE state = 3;
CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at <> 0;

-- What never changes of a job: written once, with its submit.
CREATE TABLE specs (
	n             INTEGER PRIMARY KEY REFERENCES jobs (n) ON DELETE CASCADE,
	kind          TEXT    NOT NULL,
	model         TEXT    NOT NULL,
	custody       TEXT    NOT NULL,
	comparator    TEXT    NOT NULL,
	privacy       INTEGER NOT NULL,
	policy        INTEGER NOT NULL,
	priority      INTEGER NOT NULL,
	hardware_tier INTEGER NOT NULL,
	vram          INTEGER NOT NULL,
	labels        TEXT    NOT NULL,
	chars         INTEGER NOT NULL,
	tier          INTEGER NOT NULL,
	client_key    BLOB,
	wraps         TEXT, -- JSON
	signature     BLOB,
	webhook       TEXT    NOT NULL,
	header        BLOB,
	payload       BLOB
);

-- How a job ended: written once, with its result.
CREATE TABLE done (
	n            INTEGER PRIMARY KEY REFERENCES jobs (n) ON DELETE CASCADE,
	claim        BLOB,
	worker       BLOB,
	exit_status  INTEGER NOT NULL,
	digest       BLOB,
	accepted_at  INTEGER NOT NULL,
	verification TEXT    NOT NULL,
	record       BLOB, -- the worker's envelope, JSON
	acceptance   TEXT, -- JSON
	compare_t    BLOB, -- the comparison value; NULL: none
	compare_r    BLOB,
	sketch       BLOB,
	result       BLOB
);

-- Log entries that no transition wrote: reports of workers, settlements.
CREATE TABLE entries (
	n       INTEGER NOT NULL REFERENCES jobs (n) ON DELETE CASCADE,
	seq     INTEGER NOT NULL,
	at      INTEGER NOT NULL,
	event   INTEGER NOT NULL,
	state   INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	worker  BLOB,
	reason  TEXT    NOT NULL,
	report  INTEGER NOT NULL,
	data    BLOB,
	PRIMARY KEY (n, seq)
) WITHOUT ROWID;

-- What jobs do to other records, until it is done.
CREATE TABLE effects (
	n      INTEGER PRIMARY KEY, -- in the order of arrival
	job    BLOB    NOT NULL,
	seq    INTEGER NOT NULL,
	kind   INTEGER NOT NULL,
	target TEXT    NOT NULL,
	amount INTEGER NOT NULL,
	reason TEXT    NOT NULL,
	at     INTEGER NOT NULL,
	UNIQUE (job, seq)
);

CREATE TABLE docs (
	kind    TEXT    NOT NULL,
	key     TEXT    NOT NULL,
	version INTEGER NOT NULL,
	body    TEXT    NOT NULL, -- JSON
	PRIMARY KEY (kind, key)
) WITHOUT ROWID;

CREATE TABLE counters (
	name  TEXT PRIMARY KEY,
	value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE names (
	what TEXT    NOT NULL,
	code INTEGER NOT NULL,
	name TEXT    NOT NULL,
	PRIMARY KEY (what, code)
) WITHOUT ROWID;
INSERT INTO names VALUES
	('state', 1, 'blocked'), ('state', 2, 'queued'), ('state', 3, 'running'), ('state', 4, 'validating'),
	('state', 5, 'completed'), ('state', 6, 'failed'), ('state', 7, 'cancelled'), ('state', 8, 'expired'),
	('event', 1, 'submit'), ('event', 2, 'unblock'), ('event', 3, 'claim'), ('event', 4, 'complete'),
	('event', 5, 'validate'), ('event', 6, 'reject'), ('event', 7, 'fail'), ('event', 8, 'release'),
	('event', 9, 'lease_lost'), ('event', 10, 'limit'), ('event', 11, 'expire'), ('event', 12, 'cancel'),
	('event', 13, 'acknowledge'), ('event', 14, 'purge'), ('event', 15, 'settle'), ('event', 16, 'report'),
	('report', 0, 'progress'), ('report', 1, 'log'), ('report', 2, 'part'),
	('effect', 1, 'settle'), ('effect', 2, 'refund'), ('effect', 3, 'strike'), ('effect', 4, 'shred'),
	('ticket', 0, 'first'), ('ticket', 1, 'retry'), ('ticket', 2, 'replica'),
	('privacy', 0, 'PUBLIC'), ('privacy', 1, 'PRIVATE'),
	('policy', 0, 'AUTO'), ('policy', 1, 'FAST'), ('policy', 2, 'CHEAP'),
	('priority', 0, 'standard'), ('priority', 1, 'high'), ('priority', 2, 'low');

-- Views for people, with words for numbers, hexadecimal for bytes and text for
-- times.

CREATE VIEW job_list AS
SELECT lower(hex(j.id)) AS id, s.kind AS type, s.model, s.tier,
	(SELECT name FROM names WHERE what = 'policy' AND code = s.policy) AS policy,
	(SELECT name FROM names WHERE what = 'privacy' AND code = s.privacy) AS privacy_class,
	j.account AS user_id,
	(SELECT name FROM names WHERE what = 'state' AND code = j.state) AS status,
	j.reason, j.attempt, lower(hex(j.worker)) AS worker,
	datetime(j.created_at / 1000000, 'unixepoch') AS created_at,
	CASE WHEN j.ended_at <> 0 THEN datetime(j.ended_at / 1000000, 'unixepoch') END AS completed_at
FROM jobs j LEFT JOIN specs s USING (n);

CREATE VIEW receipts AS
SELECT lower(hex(d.digest)) AS id, lower(hex(j.id)) AS job_id, lower(hex(d.worker)) AS provider_pubkey,
	CAST(d.record AS TEXT) AS receipt_json,
	json_extract(CAST(d.record AS TEXT), '$.signatures[0].sig') AS signature,
	d.verification <> 'unverified' AS verified,
	datetime(d.accepted_at / 1000000, 'unixepoch') AS created_at
FROM done d JOIN jobs j USING (n) WHERE d.record IS NOT NULL;

CREATE VIEW events AS
SELECT lower(hex(id)) AS job_id, seq, strftime('%Y-%m-%d %H:%M:%f', at / 1000000.0, 'unixepoch') AS at,
	(SELECT name FROM names WHERE what = 'event' AND code = event) AS event,
	(SELECT name FROM names WHERE what = 'state' AND code = state) AS state,
	attempt, worker, reason,
	CASE WHEN event = 16 THEN (SELECT name FROM names WHERE what = 'report' AND code = report) END AS report, data
FROM (
	SELECT j.id, e.value ->> 0 AS seq, e.value ->> 1 AS at, e.value ->> 2 AS event, e.value ->> 3 AS state,
		e.value ->> 4 AS attempt, e.value ->> 5 AS worker, e.value ->> 6 AS reason, 0 AS report, NULL AS data
	FROM jobs j, json_each('[' || rtrim(j.log, char(44, 10)) || ']') e
	UNION ALL
	SELECT j.id, e.seq, e.at, e.event, e.state, e.attempt, lower(hex(e.worker)), e.reason, e.report, e.data
	FROM entries e JOIN jobs j USING (n)
);

CREATE VIEW attempts AS
SELECT job_id, attempt, worker, at AS claimed_at FROM events WHERE event = 'claim';

CREATE VIEW outbox AS
SELECT n, lower(hex(job)) AS job_id, (SELECT name FROM names WHERE what = 'effect' AND code = kind) AS kind,
	target, amount, reason, datetime(at / 1000000, 'unixepoch') AS at
FROM effects;

CREATE VIEW workers AS
SELECT key AS id, body ->> '$.algorithm' AS algorithm, body ->> '$.operator' AS operator, body ->> '$.reason' AS reason,
	datetime((body ->> '$.first_seen') / 1000000, 'unixepoch') AS first_seen, body
FROM docs WHERE kind = 'worker';

CREATE VIEW trust_pairings AS
SELECT key AS id, body ->> '$.account' AS user_id, body ->> '$.worker_id' AS provider_pubkey, 1 AS claimed
FROM docs WHERE kind = 'pairing';

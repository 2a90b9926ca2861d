package postgres

import (
	"slices"
	"strconv"
	"strings"
)

// statements are the store's statements, in its schema.
type statements struct {
	channel string // of notifications

	write, insist                      string // see writeSQL
	create, createSpecs, start, finish string // see shapes
	copyJobs, copySpecs                string

	lockJobs, lockEffects, makeCounters, lockCounters, lockDocs     string
	deleteJobs, deleteSpecs, deleteDone, deleteReports, dropEffects string
	addReports, insertDocs, updateDocs, deleteDocs, setCounters     string
	renew                                                           string
	jobs, specs, done, log, lanes, page, pageOfShards, due, lapsed  string
	list, effects, docs, doc, counter                               string
}

// now is the clock that leases go by. It is not now(), which stands still
// within a transaction.
const now = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

func newStatements(schema string) statements {
	s := statements{
		channel: "consign/" + schema,

		write:  writeSQL("ON CONFLICT (id) DO NOTHING"),
		insist: writeSQL(""),
		create: createSQL(),
		start:  startSQL(),
		finish: finishSQL(),

		createSpecs: `INSERT INTO @specs (` + names(specColumns, "") + `) SELECT * FROM ` + unnest(specColumns, 1) + ` AS c`,
		copyJobs:    copySQL("jobs", copiedColumns),
		copySpecs:   copySQL("specs", specColumns),

		lockJobs: `SELECT id, version, state, claim, lease_until <= ` + now + `, forgotten, log FROM @jobs
			WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE`,
		lockEffects: `SELECT f.job, f.seq FROM @effects f JOIN unnest($1::uuid[], $2::bigint[]) AS c(job, seq) ON f.job = c.job AND f.seq = c.seq
			WHERE f.job = ANY($1::uuid[]) ORDER BY f.job, f.seq FOR UPDATE OF f`,
		makeCounters: `INSERT INTO @counters (name, value) SELECT name, 0 FROM unnest($1::text[]) AS c(name) ORDER BY name ON CONFLICT (name) DO NOTHING`,
		lockCounters: `SELECT name, value FROM @counters WHERE name = ANY($1::text[]) ORDER BY name FOR UPDATE`,
		lockDocs:     `SELECT kind, key, version FROM @docs WHERE kind = ANY($1::text[]) AND key = ANY($2::text[]) ORDER BY kind, key FOR UPDATE`,

		deleteJobs:    `DELETE FROM @jobs WHERE id = ANY($1::uuid[])`,
		deleteSpecs:   `DELETE FROM @specs WHERE id = ANY($1::uuid[])`,
		deleteDone:    `DELETE FROM @done WHERE id = ANY($1::uuid[])`,
		deleteReports: `DELETE FROM @reports WHERE job = ANY($1::uuid[])`,
		dropEffects: `DELETE FROM @effects f USING unnest($1::uuid[], $2::bigint[]) AS c(job, seq)
			WHERE f.job = ANY($1::uuid[]) AND f.job = c.job AND f.seq = c.seq`,
		addReports: `INSERT INTO @reports (` + names(reportColumns, "") + `) SELECT * FROM ` + unnest(reportColumns, 1) + ` AS c ON CONFLICT (job, seq) DO NOTHING`,
		insertDocs: `INSERT INTO @docs (kind, key, version, body) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::json[])`,
		updateDocs: `UPDATE @docs d SET version = c.version, body = c.body FROM unnest($1::text[], $2::text[], $3::bigint[], $4::json[]) AS c(kind, key, version, body)
			WHERE d.kind = ANY($1::text[]) AND d.key = ANY($2::text[]) AND d.kind = c.kind AND d.key = c.key`,
		deleteDocs: `DELETE FROM @docs d USING unnest($1::text[], $2::text[]) AS c(kind, key)
			WHERE d.kind = ANY($1::text[]) AND d.key = ANY($2::text[]) AND d.kind = c.kind AND d.key = c.key`,
		setCounters: `UPDATE @counters k SET value = c.value FROM unnest($1::text[], $2::bigint[]) AS c(name, value)
			WHERE k.name = ANY($1::text[]) AND k.name = c.name`,

		renew: `UPDATE @jobs j SET lease_until = ` + now + ` + c.period FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS c(id, claim, period)
			WHERE j.id = ANY($1::uuid[]) AND j.id = c.id AND j.claim = c.claim AND j.state = 3 RETURNING j.id, j.claim`,

		// Of lists the first parameter is how many rows are read at most.
		jobs:  `SELECT ` + names(jobColumns, "") + ` FROM @jobs WHERE id = ANY($1::uuid[])`,
		specs: `SELECT ` + names(specColumns, "") + ` FROM @specs WHERE id = ANY($1::uuid[])`,
		done:  `SELECT ` + names(doneColumns, "") + ` FROM @done WHERE id = $1`,
		// The packed log comes first, and then the entries that are not in it.
		log: `SELECT log, ` + nulls(reportColumns) + ` FROM @jobs WHERE id = $2 UNION ALL
			(SELECT NULL::bytea, ` + names(reportColumns, "") + ` FROM @reports WHERE job = $2 AND seq > $3 ORDER BY seq LIMIT $1)`,
		// From one lane to the next, so that its cost is in lanes and not in jobs.
		lanes: `WITH RECURSIVE head AS (
				(SELECT lane_id, lane, key FROM @jobs WHERE state = 2 ORDER BY lane_id, key LIMIT 1)
				UNION ALL
				SELECT next.* FROM head CROSS JOIN LATERAL (
					SELECT lane_id, lane, key FROM @jobs WHERE state = 2 AND lane_id > head.lane_id ORDER BY lane_id, key LIMIT 1) AS next)
			SELECT lane, key FROM head ORDER BY lane`,
		page: `SELECT ` + names(jobColumns, "") + ` FROM @jobs
			WHERE state = 2 AND lane_id = $2 AND (key, id) > ($3, $4) ORDER BY key, id LIMIT $1`,
		pageOfShards: `SELECT ` + names(jobColumns, "") + ` FROM @jobs
			WHERE state = 2 AND lane_id = $2 AND (key, id) > ($3, $4) AND $5::integer >> (get_byte(uuid_send(id), 15) % 16) & 1 = 1 ORDER BY key, id LIMIT $1`,
		due: `SELECT ` + names(jobColumns, "") + ` FROM @jobs WHERE due_at <> 0 ORDER BY due_at, id LIMIT $1`,
		lapsed: `SELECT ` + names(jobColumns, "") + ` FROM @jobs
			WHERE state = 3 AND lease_until <= ` + now + ` ORDER BY lease_until, id LIMIT $1`,
		list: `SELECT ` + names(jobColumns, "") + ` FROM @jobs
			WHERE id > $2 AND ($3 = '' OR account = $3) AND ($4 = 0 OR state = $4) ORDER BY id LIMIT $1`,
		effects: `SELECT job, seq, kind, target, amount, reason, at FROM @effects ORDER BY arrived LIMIT $1`,
		docs:    `SELECT kind, key, version, body::text FROM @docs WHERE kind = $1 AND key > $2 ORDER BY key LIMIT $3`,
		doc:     `SELECT kind, key, version, body::text FROM @docs WHERE kind = $1 AND key = $2`,
		counter: `SELECT value FROM @counters WHERE name = $1`,
	}
	for _, sql := range []*string{&s.write, &s.insist, &s.create, &s.createSpecs, &s.start, &s.finish, &s.copyJobs, &s.copySpecs, &s.lockJobs, &s.lockEffects, &s.makeCounters, &s.lockCounters, &s.lockDocs, &s.deleteJobs,
		&s.deleteSpecs, &s.deleteDone, &s.deleteReports, &s.dropEffects, &s.addReports, &s.insertDocs, &s.updateDocs, &s.deleteDocs,
		&s.setCounters, &s.renew, &s.jobs, &s.specs, &s.done, &s.log, &s.lanes, &s.page, &s.pageOfShards, &s.due, &s.lapsed, &s.list,
		&s.effects, &s.docs, &s.doc, &s.counter} {
		*sql = in(schema, *sql)
	}
	return s
}

// writeSQL writes jobs, where the stored version is the base, and what belongs
// to them, and returns the IDs of those that it wrote. Rows come in the order
// of their IDs and are locked in it: the table is read by ANY, which sorts, or
// probed in the rows' order.
func writeSQL(onConflict string) string {
	columns := slices.Concat(jobColumns, rowColumns)
	specs := 1 + len(columns)
	done := specs + len(specColumns)
	effects := done + len(doneColumns)

	number := "generate_subscripts($" + strconv.Itoa(effects) + "::uuid[], 1) AS n"
	lease := "CASE WHEN c.lease_for <> 0 THEN " + now + " + c.lease_for ELSE c.lease_until END"
	insert := strings.Replace(names(jobColumns, "c."), "c.lease_until", lease, 1)
	return `WITH c AS MATERIALIZED (SELECT * FROM ` + unnest(columns, 1) + ` AS c),
	ins AS (INSERT INTO @jobs (` + names(jobColumns, "") + `, lane_id, forgotten, log)
		SELECT ` + insert + `, c.lane_id, c.gone, c.entries FROM c WHERE c.base = 0 ` + onConflict + ` RETURNING id),
	upd AS (UPDATE @jobs j SET ` + assign(jobColumns[1:], "c.", "lease_until", lease) + `, lane_id = c.lane_id,
		forgotten = c.gone OR j.forgotten AND NOT c.anew,
		log = CASE WHEN c.anew THEN c.entries WHEN c.gone OR j.forgotten THEN '' ELSE j.log || c.entries END
		FROM c WHERE j.id = ANY($1::uuid[]) AND j.id = c.id AND j.version = c.base AND c.base > 0 RETURNING j.id),
	ok AS (SELECT id FROM ins UNION ALL SELECT id FROM upd),
	s AS (INSERT INTO @specs (` + names(specColumns, "") + `) SELECT * FROM ` + unnest(specColumns, specs) + ` AS s
		WHERE s.id IN (SELECT id FROM ok) ON CONFLICT (id) DO UPDATE SET ` + assign(specColumns[1:], "excluded.", "", "") + `),
	d AS (INSERT INTO @done (` + names(doneColumns, "") + `) SELECT * FROM ` + unnest(doneColumns, done) + ` AS d
		WHERE d.id IN (SELECT id FROM ok) ON CONFLICT (id) DO UPDATE SET ` + assign(doneColumns[1:], "excluded.", "", "") + `),
	e AS (INSERT INTO @effects (` + names(effectColumns[1:], "") + `)
		SELECT ` + names(effectColumns[1:], "") + ` FROM ` + unnest(effectColumns, effects, number) + ` AS e
		WHERE owner IS NULL OR owner IN (SELECT id FROM ok) ORDER BY n ON CONFLICT (job, seq) DO NOTHING)
	SELECT id FROM ok`
}

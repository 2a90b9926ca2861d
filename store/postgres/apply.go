package postgres

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/consignq/consign"
)

// Apply commits the changes in one transaction: in one round trip where all of
// them only write jobs, else in two. A batch of more than maxBatch bytes is
// committed in parts. A batch that fails for one change's data
// is cut in halves until that one stands alone, with PostgreSQL's error for
// its outcome; so are batches that others got in the way of, which succeed
// then. Its own errors are those, and that of a change that makes no sense: a
// Spec, Done, Forget or Delete without its Job.
func (s *Store) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	outcomes := make([]error, len(changes))
	if len(changes) == 0 {
		return outcomes, ctx.Err()
	}
	if err := s.apply(ctx, changes, outcomes, 0); err != nil {
		return nil, explain(err)
	}
	s.tell(changes, outcomes)
	return outcomes, nil
}

// maxBatch bounds what is sent to the database at once, but for one change that
// is larger: PostgreSQL takes no message of a gigabyte, and needs a multiple of
// what it takes.
const maxBatch = 64 << 20

// size is about how many bytes the changes are to send.
func size(changes []consign.Change) (n int) {
	for i := range changes {
		c := &changes[i]
		if c.Spec != nil {
			n += len(c.Spec.Payload)
		}
		if c.Done != nil {
			n += len(c.Done.Result) + len(c.Done.Record)
		}
		for j := range c.Log {
			n += len(c.Log[j].Data)
		}
	}
	return n
}

// maxTries is how often a change that stands alone is tried while others get
// in its way.
const maxTries = 5

func (s *Store) apply(ctx context.Context, changes []consign.Change, outcomes []error, tries int) error {
	if len(changes) > 1 && size(changes) > maxBatch {
		return s.halves(ctx, changes, outcomes, tries)
	}
	err := s.commit(ctx, changes, outcomes, tries)
	switch {
	case err == nil:
		return nil
	case inTheWay(err):
		if tries++; tries > maxTries {
			return err
		}
		if tries == 1 || len(changes) == 1 {
			return s.apply(ctx, changes, outcomes, tries)
		}
	case !ofData(err):
		return err
	case len(changes) == 1:
		outcomes[0] = err
		return nil
	}
	return s.halves(ctx, changes, outcomes, tries)
}

// halves applies one half and then the other. Each has its tries again, ready
// for everything if the whole was.
func (s *Store) halves(ctx context.Context, changes []consign.Change, outcomes []error, tries int) error {
	tries = min(tries, 1)
	half := len(changes) / 2
	if err := s.apply(ctx, changes[:half], outcomes[:half], tries); err != nil {
		return err
	}
	return s.apply(ctx, changes[half:], outcomes[half:], tries)
}

// inTheWay reports that a transaction was rolled back for what others did, and
// may be tried again: serialization failure, deadlock, lock not available, and
// an insert that was overtaken by another.
func inTheWay(err error) bool {
	switch code(err) {
	case "40001", "40P01", "55P03", "23505":
		return true
	}
	return false
}

// ofData reports that a transaction was rolled back for what was to be
// written: bad data, a constraint, a limit of PostgreSQL's.
func ofData(err error) bool {
	class := code(err)
	return strings.HasPrefix(class, "22") || strings.HasPrefix(class, "23") || strings.HasPrefix(class, "54")
}

// commit applies the changes in one transaction, or returns why it was rolled
// back or is not known to be committed. The first try goes by what is to be
// expected, see shapes; the next ones are ready for everything.
func (s *Store) commit(ctx context.Context, changes []consign.Change, outcomes []error, tries int) error {
	sane := true
	for i := range changes {
		outcomes[i] = sound(&changes[i])
		sane = sane && outcomes[i] == nil
	}
	if sane {
		if p := plainBatch(changes, tries == 0); p != nil {
			return s.commitPlain(ctx, p, outcomes)
		}
	}
	return s.commitJudged(ctx, newBatch(changes, outcomes), changes, outcomes)
}

// commitJudged locks and reads what the changes touch, judges them, and writes
// what they come to.
func (s *Store) commitJudged(ctx context.Context, b *batch, changes []consign.Change, outcomes []error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if err := conn.SendBatch(ctx, s.lock(b)).Close(); err != nil {
		s.rollback(conn.Conn())
		return err
	}
	for i := range changes {
		if outcomes[i] == nil {
			outcomes[i] = b.apply(&changes[i])
		}
	}
	r := newRound(conn.Conn())
	s.writes(ctx, r, b)
	if err := r.send(ctx); err != nil {
		s.rollback(conn.Conn())
		return err
	}
	return nil
}

// rollback ends a transaction that failed, so that the connection can be used
// again. If it cannot, the pool closes the connection.
func (s *Store) rollback(conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = conn.Exec(ctx, "ROLLBACK")
}

// Renew writes no version and no index. Renewals take the locks in the order
// that Apply does.
func (s *Store) Renew(ctx context.Context, renewals []consign.Renewal) ([]error, error) {
	outcomes := make([]error, len(renewals))
	if len(renewals) == 0 {
		return outcomes, ctx.Err()
	}
	ids, claims, periods := make([]pgtype.UUID, len(renewals)), make([]pgtype.UUID, len(renewals)), make([]int64, len(renewals))
	for i, r := range slices.SortedFunc(slices.Values(renewals), func(a, b consign.Renewal) int { return compareIDs(a.Job, b.Job) }) {
		ids[i], claims[i], periods[i] = uuid(r.Job), uuid(r.Claim), micros(r.For)
	}
	renewed := map[[2][16]byte]bool{}
	var b pgx.Batch
	b.Queue(writePlan)
	b.Queue(s.sql.renew, ids, claims, periods).Query(func(rows pgx.Rows) error {
		var job, claim [16]byte
		_, err := pgx.ForEachRow(rows, []any{&job, &claim}, func() error { renewed[[2][16]byte{job, claim}] = true; return nil })
		return err
	})
	if err := s.pool.SendBatch(ctx, &b).Close(); err != nil {
		return nil, explain(err)
	}
	for i, r := range renewals {
		if !renewed[[2][16]byte{r.Job, r.Claim}] {
			outcomes[i] = consign.ErrGuard
		}
	}
	return outcomes, nil
}

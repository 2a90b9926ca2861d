package consign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Queues that share a store are one queue: assignments, receipts and the
// headers of sealed jobs name it, and a worker refuses those that name another
// than it registered with. So a store keeps the ID of the queue that began it,
// and a queue with another identity does not start there.

// owner is the document of kind DocQueue.
type owner struct {
	Queue QueueID `json:"queue"`
}

const ownerKey = "id" // of the only document of its kind

// own returns a *FieldError if the store is another queue's. A store that is
// nobody's becomes this queue's, if its identity outlives it.
func (q *Queue) own(ctx context.Context) error {
	var failed error
	for range maxTries {
		doc, err := q.config.Store.Doc(ctx, DocQueue, ownerKey)
		switch {
		case err != nil:
			return fmt.Errorf("consign: the store cannot be read: %w", err)
		case doc.Version > 0:
			return q.ownedBy(doc)
		case q.passing:
			return nil
		}
		failed = q.write(ctx, Change{Docs: []Doc{jsonDoc(DocQueue, ownerKey, 1, owner{q.id})}})
		if failed == nil {
			return nil
		}
		// Another one began it meanwhile, or the answer was lost: the store knows.
	}
	return fmt.Errorf("consign: the store cannot be written: %w", failed)
}

func (q *Queue) ownedBy(doc Doc) error {
	var o owner
	if err := json.Unmarshal(doc.Body, &o); err != nil {
		return fmt.Errorf("consign: the store's document of kind %q cannot be read: mend or delete it: %w", DocQueue, err)
	}
	if o.Queue == q.id {
		return nil
	}
	problem := "is that of queue " + q.id.String()
	if q.passing {
		problem = "is missing"
	}
	return fieldError("config.identity", fmt.Sprintf("%s, and the store belongs to queue %s", problem, o.Queue),
		fmt.Sprintf("give the identity of that queue; where it got in by mistake, stop it and delete the store's document of kind %q; where its key is lost, cancel the sealed jobs that wait first, which nobody can run any more", DocQueue))
}

// serves returns ErrClosed for a queue without an identity of its own on the
// store of another: its workers would refuse what is sealed to that one, and
// those of the other what is sealed to it.
func (q *Queue) serves(ctx context.Context) error {
	if !q.passing {
		return nil // or it would not have started
	}
	err := q.own(ctx)
	if _, other := errors.AsType[*FieldError](err); other {
		return fmt.Errorf("%w: it has no identity, and its store belongs to a queue that has one", ErrClosed)
	}
	return err
}
